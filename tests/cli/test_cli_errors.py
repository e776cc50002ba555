"""What a user sees who asked for something wrong: one message that names it, and exit code 2."""

import json
import shutil

import pytest
import runs
from runs import maskjax

from maskjax.data.source import FORMS

FIRST = "processes: 1 expected, 1 present; 8 device(s) (cpu), mesh "


@pytest.fixture
def refused(capsys):
    """Runs a command; checks that it is refused in one clear message, and returns that."""

    def run(*argv, lines: int = 1) -> str:
        assert maskjax(*argv) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith(f"maskjax {argv[0]}: ")
        assert "Traceback" not in shown.err
        assert len(shown.err.splitlines()) <= lines, shown.err
        # Training first says who and what is there, before it looks at anything else.
        assert all(line.startswith(FIRST) for line in shown.out.splitlines()), shown.out
        return shown.err.removeprefix(f"maskjax {argv[0]}: ").rstrip("\n")

    return run


def message_of(refused, tmp_path, *overrides, config=runs.TINY, lines: int = 1) -> str:
    """The message of a training command, which must leave nothing behind."""
    message = refused(*runs.command(tmp_path / "run", *overrides, config=config), lines=lines)
    assert not (tmp_path / "run").exists()
    return message


OVERRIDES = {
    # keys
    "optim.base_lrr=1": "--config.optim.base_lrr does not exist; did you mean 'base_lr'?",
    "dat.path=digits": "--config.dat does not exist; did you mean 'data'?",
    "nothing=1": "--config.nothing does not exist; there are: checkpoint, data, evaluate",
    "data.path.x=1": "--config.data.path.x does not exist",
    "model.encoder.depht=1": "--config.model.encoder.depht does not exist; did you mean 'depth'?",
    "optim=3": "--config.optim is a section; its entries: always_adapt, b1, b2",
    "train.steps": "--config.train.steps: write overrides as --config.key=value",
    # types
    "train.steps=abc": "--config.train.steps=abc: invalid literal for int()",
    "train.steps=1.5": "--config.train.steps=1.5: invalid literal for int()",
    "data.flip=maybe": "--config.data.flip=maybe",
    "model.image_size=banana": "config.model.image_size = ('banana',): must be a positive int or",
    # methods and data
    "method=mim.mea": "config.method: no method 'mim.mea'. Did you mean 'mim.mae'?",
    "data.train_split=val": "source 'digits' has no split 'val'; it has: train, test",
    "data.path=folder:/not/there": "folder:/not/there: there is no directory /not/there",
    "data.path=npz:/not/there.npz": "npz:/not/there.npz: there is no file /not/there.npz",
    # sizes
    "data.global_batch=12": "config.data.global_batch = 12: must be a positive multiple of 8",
    "data.global_batch=0": "config.data.global_batch = 0: must be positive",
    "data.global_batch=-8": "config.data.global_batch = -8: must be positive",
    "train.accumulate=3": "must be a positive multiple of 24 = batch shards of the mesh x",
    "train.accumulate=0": "config.train.accumulate = 0: must be at least 1",
    "train.epochs=2.0": "config.train: set exactly one of steps (now 24) and epochs (now 2.0)",
    "train.steps=0": "config.train: set exactly one of steps (now 0) and epochs (now 0.0)",
    "train.steps=-3": "config.train: set exactly one of steps (now -3) and epochs (now 0.0)",
    "train.epochs=-1.0": "config.train: set exactly one of steps (now 24) and epochs (now -1.0)",
    "mesh.data=3": "data=3 x fsdp=1 x tensor=1 does not make 8 devices",
    "mesh.fsdp=-1": "does not make 8 devices; set one axis to -1",
    # the model
    "model.mask_ratio=0.0": "config.model.mask_ratio = 0: hides nothing to predict",
    "model.mask_ratio=1.5": "config.model.mask_ratio = 1.5: mask_ratio is the hidden share",
    "model.mask_ratio=1.0": "config.model.mask_ratio = 1.0: mask_ratio is the hidden share",
    "model.patch_size=3": "config.model.patch_size = (3, 3): does not divide model.image_size",
    "model.patch_size=(2,0)": "config.model.patch_size = (2, 0): must be a positive int or",
    "model.channels=3": "config.model.mean = (0.3051,): needs 3 channels",
    "model.encoder.heads=5": "config.model.encoder.heads = 5: must divide model.encoder.dim = 32",
    "model.encoder.depth=0": "config.model.encoder.depth = 0: must be a positive int",
    "model.dtype=float16": "config.model.dtype = 'float16': float32 or bfloat16",
    # the optimizer
    "optim.name=adamx": "config.optim.name: unknown 'adamx'; choose adamw | lars | lamb | sgd",
    "optim.lr=0.0": "config.optim.lr and config.optim.base_lr: exactly one must be above 0",
    "optim.ema=1.0": "config.optim.ema: must be at least 0 and below 1, got 1.0",
    "optim.no_decay=(": "config.optim.no_decay: '(' is not a regular expression",
    # what is only needed later in a run
    "checkpoint.keep_last=0": "config.checkpoint.keep_last: needs an int >= 1, got 0",
    "checkpoint.keep_best=('loss',)": 'config.checkpoint.keep_best: needs (metric, "max")',
    "evaluate.evaluators=('knnn',)": "no evaluator 'knnn'. Did you mean 'knn'? Evaluators: knn,",
    "evaluate.during=('knnn',)": "no evaluator 'knnn'. Did you mean 'knn'? Evaluators: knn,",
    "evaluate.pool=max": "config.evaluate.pool = 'max': mean or cls",
    "evaluate.batch=0": "config.evaluate.batch = 0: must be positive",
    "train.log_every=-5": "config.train.log_every = -5: must not be negative",
    "data.workers=-1": "config.data.workers = -1: must not be negative",
    "data.views=3": "config.data.views = 3: must be positive and divide data.global_batch",
    "data.on_error=ignore": "config.data.on_error = 'ignore': must be one of error, skip",
    "evaluate.on_error=warn": "config.evaluate.on_error = 'warn': must be one of error, skip",
    "data.bad_share=1.5": "config.data.bad_share = 1.5: must be a share",
    "data.timeout=-1.0": "config.data.timeout = -1.0: must not be negative",
    "data.crop_scale=(2.0,1.0)": "crop scale must be 0 < low <= high <= 1, found (2.0, 1.0)",
    "seed=-1": "config.seed = -1: must not be negative",
    "init_from=/not/there.npz": "config.init_from: /not/there.npz: no such file",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_that_does_not_fit(override, refused, tmp_path):
    assert OVERRIDES[override] in message_of(refused, tmp_path, override)


def test_several_overrides(refused, tmp_path):
    during = ("evaluate.during=('knn',)", "evaluate.every=1")
    message = message_of(refused, tmp_path, *during, "data.test_split=val")
    assert message == "source 'digits' has no split 'val'; it has: train, test"
    message = message_of(refused, tmp_path, *during, "data.path=synthetic:8x8x1:64")
    assert message == "config.evaluate.during = ('knn',): needs data with labels"


def test_an_unknown_source_lists_the_sources(refused, tmp_path):
    message = message_of(refused, tmp_path, "data.path=digit", lines=len(FORMS) + 4)
    assert message.startswith("unknown data source 'digit'; did you mean 'digits'?\nvalid sources:")
    message = message_of(refused, tmp_path, f"data.path={tmp_path}", lines=len(FORMS) + 4)
    assert "if it is a path, it is a directory of none of the known kinds" in message


def test_an_unreadable_first_image(refused, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.jpg").write_bytes(b"no picture")
    message = message_of(refused, tmp_path, f"data.path=folder:{tmp_path}")
    assert "cannot decode image 'train/a.jpg' (10 bytes)" in message


INSTALLED = "no installed experiment of that name; installed: "


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"{runs.ROOT}/configs/mim/mae.py:nope", "no variant 'nope'; variants: tiny, demo, "),
        ("configs/mim/nope.py", INSTALLED),
        ("mim/nope:tiny", INSTALLED),
        ("", INSTALLED),
        ("/", INSTALLED),
        (f"{runs.ROOT}/README.md", "is not a Python file"),
    ],
)
def test_a_config_that_is_not_there(spec, message, refused, tmp_path):
    assert message in message_of(refused, tmp_path, config=f"--config={spec}")


COMMON = "from maskjax.configs import common\n"
FILES = {
    "x = 1\n": ": has no function get_config(arg)",
    "def get_config():\n    return undefined\n": ", line 2: NameError: name 'undefined'",
    "def get_config():\n    return (\n": ", line 2: SyntaxError: '(' was never closed",
    "\nimport not_there\n": ", line 2: ModuleNotFoundError: No module named 'not_there'",
    "def get_config():\n    return 3\n": ": get_config must return maskjax.configs.common.experi",
    f"{COMMON}def get_config():\n    return common.experiment('mim.mea')\n": "no method 'mim.mea'",
    f"{COMMON}def get_config():\n    c = common.experiment('mim.mae')\n    c.data.pat = ''\n"
    "    return c\n": ": config.data.pat does not exist; did you mean 'path'?",
    f"{COMMON}def get_config():\n    c = common.experiment('mim.mae')\n    c.train.steps = 'x'\n"
    "    return c\n": ", line 4: TypeError:",
    f"{COMMON}def get_config():\n    c = common.experiment('mim.mae')\n    c.train.steps = 1\n"
    "    c.optim.lr = 1.0\n    c.model.patch = 3\n    return c\n": "config.model.patch does not",
}


@pytest.mark.parametrize("text", FILES, ids=range(len(FILES)))
def test_a_config_file_that_is_wrong(text, refused, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(text)
    message = message_of(refused, tmp_path, config=f"--config={path}")
    assert FILES[text] in message
    if "mim." not in text:
        assert message.startswith(f"--config={path}")


def test_a_workdir_that_cannot_be(refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    for workdir, reason in ((tmp_path / "file", "exists"), (tmp_path / "file" / "run", "Not a")):
        message = refused(*runs.command(workdir))
        assert message.startswith(f"--workdir={workdir}: cannot be written: ")
        assert reason in message
    assert (tmp_path / "file").read_text() == "mine"
    assert refused(*runs.command("")) == "--workdir= is empty; name the folder of the run"


@pytest.fixture(scope="module")
def copy(trained, tmp_path_factory):
    """A copy of the trained run, to be broken."""
    workdir = tmp_path_factory.mktemp("broken") / "run"
    shutil.copytree(trained, workdir)
    return workdir


def test_a_workdir_of_another_config(copy, refused):
    before = (copy / "config.json").read_text()
    options = ("checkpoint.every=12", "seed=3", "optim.lr=0.1", "data.workers=1", "mesh.fsdp=2")
    message = refused(*runs.command(copy, *options), lines=4)
    assert message.splitlines() == [
        f"--workdir={copy} holds a run with another config:",
        "  optim.lr: 0.003 -> 0.1",
        "  seed: 0 -> 3",
        "Take another folder, or the config of that run to go on with it.",
    ]
    assert (copy / "config.json").read_text() == before


READERS = {
    "evaluate": ["--evaluators=held_out"],
    "export": ["--format=mae", "--out=x.npz"],
    "reconstruct": ["--images", __file__, "--out=x.png"],
    "embed": ["--data=digits", "--out=x.npz"],
}


@pytest.mark.parametrize("command", READERS)
def test_readers_of_a_run_that_is_not_there(command, refused, tmp_path, monkeypatch, copy):
    monkeypatch.chdir(tmp_path)
    options = READERS[command]
    message = refused(command, "--workdir=runs/none", *options)
    assert message.startswith("--workdir=runs/none: no run here (runs/none/config.json is missing)")
    message = refused(command, f"--workdir={copy}", *options, "--step=13")
    assert message == f"{copy}/checkpoints: no checkpoint of step 13 (steps found: 12, 24)"
    assert list(tmp_path.iterdir()) == []


def test_unknown_evaluators(copy, refused):
    message = refused("evaluate", f"--workdir={copy}", "--evaluators=knn,rankk")
    assert message.startswith("no evaluator 'rankk'. Did you mean 'rank'?")


@pytest.mark.parametrize("command", ["export", "reconstruct", "embed"])
def test_wrong_names_for_the_output(command, copy, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [option for option in READERS[command] if "--out" not in option]
    cases = {"x.pt": "the name must end in .", "": "the name must end in ."}
    name = "x.png" if command == "reconstruct" else "x.npz"
    cases[f"no/{name}"] = f"the folder {tmp_path.resolve()}/no does not exist"
    for out, reason in cases.items():
        message = refused(command, f"--workdir={copy}", *options, f"--out={out}")
        assert message.startswith(f"--out={out}: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_none(copy, refused, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    command = ("reconstruct", f"--workdir={copy}", f"--out={tmp_path}/x.png", "--images")
    message = refused(*command, tmp_path / "text.png", tmp_path / "none.png")
    assert message == f"--images: no such file: {tmp_path}/none.png"
    message = refused(*command, tmp_path / "text.png")
    assert message.startswith(f"cannot decode image '{tmp_path}/text.png' (10 bytes)")
    assert not (tmp_path / "x.png").exists()


def test_data_that_is_not_there(copy, refused, tmp_path):
    command = ("embed", f"--workdir={copy}", f"--out={tmp_path}/x.npz")
    message = refused(*command, "--data=digits", "--split=val")
    assert message == "source 'digits' has no split 'val'; it has: train, test"
    message = refused("data-stats", "--data=digits", "--split=val")
    assert message == "source 'digits' has no split 'val'; it has: train, test"
    assert refused("data-stats", "--data=digitss", lines=len(FORMS) + 4).startswith(
        "unknown data source"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_an_average(copy, refused, tmp_path):
    """The average is read from the checkpoint, whatever the config says."""
    leaves = copy / "checkpoints" / "24" / "meta" / "metadata"
    content = leaves.read_text()
    meta = json.loads(content)
    meta["leaves"] = {name: leaf for name, leaf in meta["leaves"].items() if "/ema/" not in name}
    try:
        leaves.write_text(json.dumps(meta))
        message = refused("evaluate", f"--workdir={copy}", "--ema", "--evaluators=held_out")
        assert message.endswith("no moving average of the parameters is stored (config.optim.ema)")
    finally:
        leaves.write_text(content)


def test_a_broken_config_json(copy, refused):
    path = copy / "config.json"
    whole = path.read_text()
    try:
        for text in (whole[:200], "", "[]", "{}", "\0"):
            path.write_text(text)
            for command in (
                runs.command(copy, "checkpoint.every=12"),
                ["evaluate", f"--workdir={copy}"],
            ):
                message = refused(*command)
                assert message.startswith(f"{path}: ")
                assert "JSON" in message or "is not the config of a run" in message
        path.unlink()
        message = refused(*runs.command(copy, "checkpoint.every=12"))
        assert "has checkpoints but no config.json" in message
        assert not path.exists()
    finally:
        path.write_text(whole)


def test_damaged_and_missing_checkpoints(copy, refused, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(copy, workdir)
    train = runs.command(workdir, "checkpoint.every=12")
    evaluate = ["evaluate", f"--workdir={workdir}", "--evaluators=held_out"]

    def damage(step):
        (workdir / "checkpoints" / step / "meta" / "metadata").write_text("{")

    # The newest one only: who reads is told, who trains goes on from the one before.
    damage("24")
    message = refused(*evaluate)
    assert message.startswith(f"{workdir}/checkpoints/24: the checkpoint is damaged")
    assert message.endswith("move the directory away to go on from an older one")
    assert maskjax(*train) == 0
    assert "resuming at step 12" in capsys.readouterr().out
    assert sorted(p.name for p in (workdir / "checkpoints").iterdir()) == ["12", "24", "damaged-24"]
    assert maskjax(*evaluate) == 0
    capsys.readouterr()
    # All of them.
    damage("12")
    damage("24")
    for command in (train, evaluate):
        message = refused(*command)
        assert message.startswith(f"{workdir}/checkpoints/24: the checkpoint is damaged")
    for step in ("12", "24"):
        shutil.rmtree(workdir / "checkpoints" / step)
    assert refused(*evaluate).startswith(f"{workdir}: no finished checkpoint yet")
    shutil.rmtree(workdir / "checkpoints")
    assert "checkpoints: there is no such directory" in refused(*evaluate)


def test_weights_that_do_not_fit_are_named(copy, refused, tmp_path, capsys):
    files = {}
    for what in ("full", "encoder"):
        files[what] = tmp_path / f"{what}.safetensors"
        command = ("export", f"--workdir={copy}", "--format=mae", f"--what={what}")
        assert maskjax(*command, f"--out={files[what]}") == 0
    capsys.readouterr()
    message = message_of(refused, tmp_path, f"init_from={files['encoder']}", lines=30)
    assert message.startswith(f"config.init_from: {files['encoder']} (layout mae) does not fit")
    assert "missing: decoder_pred.weight" in message
    assert "config.init_missing = ('decoder/*',)" in message
    options = (f"init_from={files['full']}", "model.encoder.heads=4")
    message = message_of(refused, tmp_path, *options, lines=4)
    assert "has another geometry than the model" in message
    assert "heads: 2, 4" in message
