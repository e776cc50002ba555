"""Protocols of probes on a frozen encoder, as data: scores carry their names.

`evaluate.trained_probe` runs them on cached features; `configs/supervised/probe.py` trains them as
the papers did, on augmented images.
"""

import dataclasses

_IMAGENET, _SMALLEST = 1_281_167, 32


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a probe is trained.

    Attributes:
        name: as scores carry it.
        source: where its values come from.
        pool: what is read: "cls", "mean", or "attentive" (all tokens).
        batch_norm: BatchNorm without scale and offset in front of the last layer.
        hidden: width of a hidden layer; 0 = none.
        std: of the last layer's first weights.
        optimizer: "lars", "sgd" or "adamw"; momentum is 0.9.
        base_lr: learning rate for 256 images.
        batch: images per step, on ImageNet-1k.
        epochs, warmup: lengths of the run and of its warm-up; then half a cosine to 0.
        weight_decay: of the optimizer.
    """

    name: str
    source: str
    pool: str = "cls"
    batch_norm: bool = True
    hidden: int = 0
    std: float = 0.01
    optimizer: str = "lars"
    base_lr: float = 0.1
    batch: int = 16384
    epochs: float = 90
    warmup: float = 10
    weight_decay: float = 0.0

    @property
    def lr(self) -> float:
        """The learning rate at its own batch."""
        return self.base_lr * self.batch / 256

    def batch_for(self, num: int) -> int:
        """Images per step on a set of `num`: as many steps an epoch as on ImageNet-1k, or fewer.

        Smaller batches than 32 are not taken. The rate stays that of the protocol's own batch: a
        step of LARS is relative to the weights, and at a rate scaled down it would not move them.
        """
        return min(num, max(_SMALLEST, -(-num * self.batch // _IMAGENET)))

    def text(self, batch: int) -> str:
        """In words, with the batch that was really used."""
        layers = ["BatchNorm without affine"] if self.batch_norm else []
        layers = [f"hidden layer of {self.hidden}"] * bool(self.hidden) + layers
        head = ", ".join([*layers, "linear layer"])
        length = f"{self.epochs:g} epochs of batches of {batch}"
        return f"{head}; {self.optimizer}, lr {self.lr:g} (that of {self.batch} images), {length}"


MAE_LINEAR = Protocol("MAE linear probe", "He et al. 2022, official code")
PROTOCOLS = {
    "mae_linear": MAE_LINEAR,
    "mae_linear_large": dataclasses.replace(MAE_LINEAR, epochs=50),
    "maskalign_linear": Protocol(
        "MaskAlign linear probe", "Xue et al. 2023, official code", base_lr=0.025
    ),
    "hpm_linear": Protocol(
        "HPM linear probe",
        "Wang et al. 2023, official code",
        optimizer="sgd",
        base_lr=1e-3,
        batch=2048,
        epochs=100,
    ),
    "cae_attentive": Protocol(
        "CAE attentive probe",
        "Chen et al. 2022, official code",
        pool="attentive",
        optimizer="sgd",
        base_lr=0.4 / 32,  # 0.4 at 8192 images
        batch=8192,
    ),
    "mlp": Protocol(
        "MLP probe",
        "ours",
        pool="mean",
        hidden=512,
        optimizer="adamw",
        base_lr=1e-3,
        batch=1024,
        epochs=50,
        warmup=5,
        weight_decay=1e-4,
    ),
}
