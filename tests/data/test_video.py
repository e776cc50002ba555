"""Videos: exact frames from any start, clips, one crop and flip, views of one decoding."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import encode, write
from streams import assert_one_stream, same, take

from maskjax.data.colour import ColorJitter
from maskjax.data.crops import MultiScaleView, RandomView
from maskjax.data.photo import Photo
from maskjax.data.source import kind_of_spec, resolve
from maskjax.data.video import Clip, VideoEval, VideoTrain
from maskjax.data.video_file import EncodedVideo, FrameFolder
from maskjax.errors import UserError

av = pytest.importorskip("av")
CLIP = Clip(3, stride=2)


def film(path, frames, options=(), size=(32, 48), first=0, rotation=0, codec="libx264"):
    """A real film: the brightness of frame n is 6 * (first + n), its right half is black."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=dict(options))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 8_000_000
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(first, first + frames):
            pixels = np.full((*size, 3), number * 6, np.uint8)
            pixels[:, size[1] // 2 :] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        container.mux(stream.encode(None))


def numbers(pictures):
    """Which frames these are, by their brightness."""
    return [round(float(picture[4:-4, 4:12].mean()) / 6) for picture in pictures]


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """DIR/train/{jump,run}/N.mp4 and DIR/test/run/N.mp4, of 20 .. 23 frames."""
    root = tmp_path_factory.mktemp("films")
    for number, name in enumerate(["train/jump/0", "train/run/1", "train/run/2", "test/run/3"]):
        film(root / f"{name}.mp4", 20 + number, {"g": "6", "bf": "2"}, first=number)
    return root


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("x.mp4", "libx264", {"g": "5", "bf": "3"}),
        ("x.mp4", "libx264", {"g": "1"}),
        ("x.mkv", "libx264", {"g": "7", "bf": "2"}),
        ("x.webm", "libvpx-vp9", {"g": "8"}),
        ("x.avi", "mpeg4", {"g": "6", "bf": "2"}),
        ("x.mov", "mjpeg", {}),
    ],
)
def test_every_frame_from_every_start(tmp_path, name, codec, options):
    if codec == "mjpeg":
        options = {**options, "strict": "-1"}
    film(tmp_path / name, 17, options, codec=codec)
    video = EncodedVideo(str(tmp_path / name))
    assert video.count() == 17
    for start in range(17):
        assert numbers(video.read([start])) == [start]
    assert numbers(video.read([2, 2, 3, 11, 16])) == [2, 2, 3, 11, 16]


def test_turned_films_are_upright(tmp_path):
    film(tmp_path / "x.mp4", 2, first=20, rotation=90)
    (picture,) = EncodedVideo(str(tmp_path / "x.mp4")).read([1])
    assert picture.shape == (48, 32, 3)
    # What was left is below, turned against the clock.
    assert picture[30:, 4:-4].mean() > 100
    assert picture[:18, 4:-4].mean() < 10


def test_folders_of_frames_are_ordered_by_number(tmp_path):
    for number in range(12):
        write(tmp_path / f"frame_{number}.png", encode(np.full((2, 2, 3), number, np.uint8)))
    video = FrameFolder(str(tmp_path))
    assert video.count() == 12
    assert [int(picture[0, 0, 0]) for picture in video.read([1, 9, 10, 11])] == [1, 9, 10, 11]


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 200), st.integers(0, 2**32))
def test_clips_lie_inside(num_frames, stride, available, seed):
    for sampling in ("dense", "segments"):
        clip = Clip(num_frames, stride, sampling)
        for frames in (clip.frames(available, np.random.default_rng(seed)), clip.frames(available)):
            assert frames.shape == (num_frames,)
            assert 0 <= frames.min() <= frames.max() < available
            assert (np.diff(frames) >= 0).all()
            if sampling == "dense" and (num_frames - 1) * stride < available:
                assert (np.diff(frames) == stride).all()


def test_starts_are_uniform_and_the_middle_is_the_middle():
    starts = [Clip(4, 3).frames(14, np.random.default_rng(seed))[0] for seed in range(400)]
    assert np.bincount(starts).min() > 50
    assert set(starts) == {0, 1, 2, 3, 4}
    assert Clip(4, 3).frames(14).tolist() == [2, 5, 8, 11]
    assert Clip(4, 3).frames(5).tolist() == [0, 1, 3, 4]
    assert Clip(4, 3).frames(1).tolist() == [0, 0, 0, 0]
    assert Clip(4, sampling="segments").frames(16).tolist() == [1, 5, 9, 13]
    assert Clip(4, sampling="segments").frames(2).tolist() == [0, 0, 1, 1]


def test_folders_and_classes(films):
    source = resolve(f"video:{films}", "train")
    assert source.ids() == ["train/jump/0.mp4", "train/run/1.mp4", "train/run/2.mp4"]
    assert source.class_names == ("jump", "run")
    test = resolve(f"video:{films}", "test")
    assert test[0]["label"] == 1
    assert [kind_of_spec("video:x"), test.kind] == ["video", "video"]
    (films / "list.csv").write_text("file,label\ntest/run/3.mp4,7\n")
    listed = resolve(f"video:{films}/list.csv", "train")
    assert [listed[0]["label"], listed[0]["video"].count()] == [7, 23]


def test_frames_in_folders(tmp_path):
    for name in ("train/run/a/1.jpg", "train/run/b/1.jpg", "train/sit/c/1.jpg"):
        write(tmp_path / name, encode(np.zeros((4, 4, 3), np.uint8), "JPEG"))
    source = resolve(f"video:{tmp_path}", "train")
    assert source.ids() == ["train/run/a", "train/run/b", "train/sit/c"]
    assert isinstance(source[2]["video"], FrameFolder)
    unlabelled = resolve(f"video:{tmp_path}/train", "run")
    assert [unlabelled.ids(), unlabelled.labels] == [["run/a", "run/b"], None]


class Noise:
    """A film of one noisy picture that counts how often it is read."""

    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)

    def __init__(self, key, frames):
        self.key, self.frames, self.reads = key, frames, 0

    def count(self):
        return self.frames

    def read(self, frames):
        self.reads += 1
        return [self.picture] * len(frames)


def test_a_film_that_was_replaced_is_looked_at_again(tmp_path):
    film(tmp_path / "x.mp4", 9)
    assert EncodedVideo(str(tmp_path / "x.mp4")).count() == 9
    film(tmp_path / "x.mp4", 12, {"g": "3"})
    video = EncodedVideo(str(tmp_path / "x.mp4"))
    assert [video.count(), numbers(video.read([11]))] == [12, [11]]


def test_folders_inside_of_classes_are_of_the_class(tmp_path):
    for name in ("run/a.mp4", "run/more/b.mp4", "sit/deep/er/c.mp4"):
        write(tmp_path / "train" / name, b"")
    source = resolve(f"video:{tmp_path}", "train")
    assert source.ids() == [
        "train/run/a.mp4",
        "train/run/more/b.mp4",
        "train/sit/deep/er/c.mp4",
    ]
    assert source.labels.tolist() == [0, 0, 1]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32), st.booleans(), st.booleans())
def test_all_frames_share_crop_and_flip(seed, flip, scales):
    """A film whose pixels do not change stays one."""
    film = Noise("still", 9)
    view = MultiScaleView((8, 8), flip=flip) if scales else RandomView((8, 8), flip=flip)
    transform = VideoTrain(Clip(4), view)
    made = transform({"video": film, "id": ""}, np.random.default_rng(seed))["video"]
    assert (made == made[:1]).all()
    rng = np.random.default_rng(seed)
    Clip(4).frames(9, rng)
    assert np.array_equal(made[0], view(rng, 20, 30).image(film.picture, (8, 8)))


def test_all_frames_share_their_colours():
    photo = Photo(stages=(ColorJitter(0.4, 0.4, 0.4),))
    transform = VideoTrain(Clip(4), RandomView((8, 8)), photo)
    one, other = (
        transform({"video": Noise("", 9), "id": ""}, np.random.default_rng(n))["video"]
        for n in (0, 1)
    )
    assert (one == one[:1]).all()
    plain = VideoTrain(Clip(4), RandomView((8, 8)))
    assert not np.array_equal(
        one, plain({"video": Noise("", 9), "id": ""}, np.random.default_rng(0))["video"]
    )
    assert not np.array_equal(one, other)


def test_one_stream_for_every_number_of_processes(films):
    transform = pickle.loads(pickle.dumps(VideoTrain(CLIP, RandomView((8, 8)))))
    made = assert_one_stream(f"video:{films}", transform)
    assert len(np.unique(made["video"].reshape(12, -1), axis=0)) > 6


def test_views_of_a_visit_are_decoded_once():
    transform, film = VideoTrain(Clip(4, 2), RandomView((8, 8))), Noise("", 99)
    example = {"video": film, "id": "", "shared_rng": np.random.default_rng(0)}
    together = transform.views(example, [np.random.default_rng(n) for n in range(3)])
    assert film.reads == 1
    for n, made in enumerate(together):
        alone = {**example, "shared_rng": np.random.default_rng(0)}
        expected = transform(alone, np.random.default_rng(n))
        assert np.array_equal(made["video"], expected["video"])


def test_views_share_a_clip(films):
    view = RandomView((12, 12), scale=(0.6, 0.6), ratio=(1, 1), flip=False)
    transform = VideoTrain(CLIP, view, Photo(interpolation="nearest"))
    made = take(f"video:{films}", transform, 2, size=4, views=4)
    assert len(np.unique(made["video"].reshape(8, -1), axis=0)) > 2
    for visit in (made["video"][:4], made["video"][4:]):
        # The left half is in every crop and says which frame it is.
        brightest = visit.max(axis=(2, 3, 4))
        assert np.abs(brightest.astype(int) - brightest[:1]).max() <= 3
    assert same(take(f"video:{films}", transform, 4, size=2, views=4, processes=2), made)


def test_evaluation_takes_the_middle(films):
    made = VideoEval(CLIP, (32, 48))(resolve(f"video:{films}", "test")[0])["video"]
    assert numbers(made) == [3 + 9, 3 + 11, 3 + 13]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda root: EncodedVideo(f"{root}/none.mp4").count(), "cannot decode video .*none.mp4"),
        (lambda root: EncodedVideo(f"{root}/text.mp4").count(), "cannot decode video .*text.mp4"),
        (lambda root: FrameFolder(f"{root}/empty").count(), "holds no image"),
        (lambda root: resolve(f"video:{root}", "empty"), "holds no videos"),
        (lambda root: resolve("video:/none", "train"), "there is no directory /none"),
        (lambda root: Clip(4, 0), r"config.data.video.stride = 0"),
        (lambda root: Clip(4, 1, "x"), r"config.data.video.sampling = 'x': must be dense or"),
    ],
)
def test_refusals(tmp_path, call, message):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        call(tmp_path)


def test_a_truncated_film_is_refused_or_right(tmp_path):
    film(tmp_path / "x.mkv", 40, {"g": "5"})
    data = (tmp_path / "x.mkv").read_bytes()
    (tmp_path / "x.mkv").write_bytes(data[: len(data) * 2 // 3])
    video = EncodedVideo(str(tmp_path / "x.mkv"))
    assert 0 < video.count() < 40
    assert numbers(video.read([0, 5])) == [0, 5]


def test_frames_of_several_sizes(tmp_path):
    for number, size in enumerate([(8, 8), (8, 9)]):
        write(tmp_path / f"{number}.png", encode(np.zeros((*size, 3), np.uint8)))
    with pytest.raises(UserError, match=r"has frames of \(8, 8\) and of \(8, 9\)"):
        VideoEval(Clip(2, 1), (4, 4))({"video": FrameFolder(str(tmp_path)), "id": "x"})
