"""A model of any size: which pictures and latents it takes, how others are fitted, and what its answers say."""

import base64
import io
from collections.abc import AsyncIterator, Iterator

import httpx
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model_store import Store
from model_store.taesd import TAESD, TAESDConfig
from model_store.vae.pixels import to_images
from model_store.vae.scaling import Scaling
from service.offload import LIGHT_BYTES
from service.settings import Settings

from ...conftest import running

PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
SAFETENSORS = {"Content-Type": "application/vnd.safetensors"}
SCALING = Scaling(factor=0.5, shift=0.25)
pytestmark = pytest.mark.anyio


def config(channels: int = 4, space: str = "sd1", *, has_middle_norm: bool = False) -> TAESDConfig:
    """The record of a tiny autoencoder of RGB pictures."""
    return TAESDConfig(
        image_shape=(3, None, None),
        latent_shape=(channels, None, None),
        latent_space=space,
        scaling=SCALING,
        has_middle_norm=has_middle_norm,
    )


@pytest.fixture(scope="module")
def network() -> TAESD:
    """A network with random weights."""
    torch.manual_seed(0)
    return TAESD(config()).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, network: TAESD) -> Store:
    """A store with two tiny autoencoders of different latent spaces."""
    store = Store(tmp_path_factory.mktemp("any-size"))
    store.publish("tiny", network, preview="small")
    store.publish("small", TAESD(config().model_copy(update={"scaling": Scaling()})))
    torch.manual_seed(1)
    store.publish("wide", TAESD(config(16, "flux1", has_middle_norm=True)))
    return store


@pytest.fixture
async def client(shelf: Store, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The client of a service with both models; `tiny` is the default."""
    async with running(
        settings, store=shelf.root, default_model="tiny", max_pixels=60_000, max_request_pixels=200_000
    ) as (_, client):
        yield client


def pixels(height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture (H, W, 3)."""
    rows, columns = np.mgrid[0:height, 0:width]
    channels = (rows * 255 // height, columns * 255 // width, (rows + columns) * 127 // (height + width))
    return np.stack(channels, axis=-1).astype(np.uint8)


def png(height: int, width: int) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(height, width)).save(buffer, "PNG")
    return buffer.getvalue()


def as_images(*pictures: NDArray[np.uint8]) -> Tensor:
    """Images (B, 3, H, W) of pictures (H, W, 3)."""
    return to_images(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2))


async def ok(answer: httpx.Response) -> httpx.Response:
    """The answer, which must be a success."""
    assert answer.status_code == 200, answer.text
    return answer


def tensors_in(answer: httpx.Response) -> dict[str, NDArray[np.float32]]:
    """The tensors of an answer in safetensors."""
    return safetensors.numpy.load(answer.content)


def sizes_in(answer: httpx.Response) -> Iterator[tuple[int, int]]:
    """Width and height of each picture of an answer in JSON."""
    return (Image.open(io.BytesIO(base64.b64decode(text))).size for text in answer.json()["images"])


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (40, 8)])
async def test_latents_are_those_of_the_network(
    client: httpx.AsyncClient, network: TAESD, size: tuple[int, int]
) -> None:
    """Every multiple of eight is taken as it is."""
    answer = await ok(await client.post("/v1/encode?format=safetensors", content=png(*size), headers=PNG))

    expected = network.encode(as_images(pixels(*size))).mean
    np.testing.assert_allclose(tensors_in(answer)["latents"], expected.numpy(), atol=1e-5)
    assert answer.headers["X-Latent-Space"] == "sd1;raw"


async def test_other_size_is_refused_with_the_remedies(client: httpx.AsyncClient) -> None:
    """The message names the next size, the ways to resize, and padding."""
    answer = await client.post("/v1/encode", content=png(13, 21), headers=PNG)

    assert answer.status_code == 422
    assert "13×21, but tiny@1 takes sides that are multiples of 8" in answer.json()["detail"]
    assert "cover (crop) or stretch, which give 16×24, or for fit=pad" in answer.json()["detail"]


@pytest.mark.parametrize("resize", ["contain", "cover", "stretch"])
async def test_resize_goes_to_the_next_multiple(client: httpx.AsyncClient, resize: str) -> None:
    """A picture of 13×21 becomes one of 16×24."""
    answer = await ok(await client.post(f"/v1/reconstruct?resize={resize}", content=png(13, 21), headers=PNG))

    assert Image.open(io.BytesIO(answer.content)).size == (24, 16)


async def test_padded_picture_is_cut_again(client: httpx.AsyncClient, network: TAESD) -> None:
    """Encode tells the original size, and decode cuts to it; the pixels are the network's for a repeated edge."""
    encoded = await ok(await client.post("/v1/encode?fit=pad&format=safetensors", content=png(13, 21), headers=PNG))
    size = encoded.headers["X-Original-Size"]
    decoded = await ok(
        await client.post(f"/v1/decode?original_size={size}&format=npy", content=encoded.content, headers=SAFETENSORS)
    )

    padded = np.pad(pixels(13, 21), ((0, 3), (0, 3), (0, 0)), mode="edge")
    expected = network.decode(network.encode(as_images(padded)).mean).mean[:, :, :13, :21]
    assert size == "3x13x21"
    found = np.load(io.BytesIO(decoded.content)).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected.numpy() * 255, atol=0.51)


async def test_reconstruction_of_a_padded_picture_has_its_size(client: httpx.AsyncClient) -> None:
    """The distance is measured to the picture as the client has sent it."""
    answer = await ok(await client.post("/v1/reconstruct?fit=pad&format=json", content=png(13, 21), headers=PNG))

    assert [*sizes_in(answer)] == [(21, 13)]
    assert len(answer.json()["psnr_db"]) == 1


async def test_size_that_is_too_large_to_cut_to_is_refused(client: httpx.AsyncClient) -> None:
    """The message names both sizes."""
    body = safetensors.torch.save({"latents": torch.zeros(1, 4, 2, 3)})

    answer = await client.post("/v1/decode?original_size=3x17x21", content=body, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "17×21 is larger than the images, which are 16×24" in answer.json()["detail"]


async def test_pictures_of_several_sizes_are_each_cut_to_their_own(client: httpx.AsyncClient) -> None:
    """Decode takes the header of encode as it is; two of the pictures have latents of the same shape."""
    files = [("file", png(*size)) for size in [(13, 21), (16, 24), (16, 24), (5, 8)]]
    encoded = await ok(await client.post("/v1/encode?fit=pad&format=safetensors", files=files))
    told = encoded.headers["X-Original-Size"]
    params = {"original_size": told, "format": "json"}
    decoded = await ok(await client.post("/v1/decode", params=params, content=encoded.content, headers=SAFETENSORS))

    assert told == "3x13x21, 3x16x24, 3x16x24, 3x5x8"
    assert [*sizes_in(decoded)] == [(21, 13), (24, 16), (24, 16), (8, 5)]


async def test_other_number_of_sizes_than_images_is_refused(client: httpx.AsyncClient) -> None:
    """Two sizes do not say which of three images has which."""
    body = safetensors.torch.save({"latents": torch.zeros(3, 4, 2, 3)})

    answer = await client.post("/v1/decode?original_size=3x9x9,3x8x8", content=body, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "There are 2 original sizes for 3 images; send one for each" in answer.json()["detail"]


@pytest.mark.parametrize("format_", ["json", "safetensors"])
async def test_several_sizes_come_back_in_order(client: httpx.AsyncClient, network: TAESD, format_: str) -> None:
    """Each picture has latents of its own shape, and what encode answers, decode takes."""
    sizes = [(8, 16), (24, 8), (24, 8)]
    files = [("file", png(*size)) for size in sizes]
    encoded = await ok(await client.post(f"/v1/encode?format={format_}", files=files))
    headers = {"Content-Type": encoded.headers["Content-Type"]}

    decoded = await ok(await client.post("/v1/decode?format=json", content=encoded.content, headers=headers))

    assert [*sizes_in(decoded)] == [(width, height) for height, width in sizes]
    shapes = [network.encode(as_images(pixels(*size))).mean.shape[1:] for size in sizes]
    assert shapes_in(encoded, format_) == [tuple(shape) for shape in shapes]


def shapes_in(answer: httpx.Response, format_: str) -> list[tuple[int, ...]]:
    """The shape of each latent of an answer."""
    if format_ == "json":
        return [np.array(latent).shape for latent in answer.json()["latents"]]
    found = tensors_in(answer)
    return [found[f"latents.{index}"].shape for index in range(3)]


@pytest.mark.parametrize("address", ["/v1/encode?format=npy", "/v1/reconstruct?format=png", "/v1/interpolate"])
async def test_several_sizes_need_a_format_with_room(client: httpx.AsyncClient, address: str) -> None:
    """An array or a picture has room for one size only."""
    answer = await client.post(address, files=[("file", png(8, 16)), ("file", png(24, 8))])

    assert answer.status_code == 422
    assert "several sizes, 8×16 and 24×8 among them" in answer.json()["detail"]


async def test_draw_of_a_picture_does_not_depend_on_the_sizes_before_it(client: httpx.AsyncClient) -> None:
    """A network without a posterior gives the same latents for every draw, alone and among others."""
    alone = await ok(await client.post("/v1/encode?latents=sample&seed=3", content=png(8, 8), headers=PNG))
    files = [("file", png(16, 8)), ("file", png(8, 8))]
    among = await ok(await client.post("/v1/encode?latents=sample&seed=3", files=files))

    np.testing.assert_allclose(among.json()["latents"][1], alone.json()["latents"][0], atol=1e-5)


async def test_scaled_latents_are_shifted_and_divided(client: httpx.AsyncClient, network: TAESD) -> None:
    """scaled = (latent − shift) · factor, and the answer says so in its header and its metadata."""
    answer = await ok(await client.post("/v1/encode?scaled=true&format=safetensors", content=png(8, 8), headers=PNG))

    expected = (network.encode(as_images(pixels(8, 8))).mean - 0.25) * 0.5
    np.testing.assert_allclose(tensors_in(answer)["latents"], expected.numpy(), atol=1e-5)
    assert answer.headers["X-Latent-Space"] == "sd1;scaled"
    assert b'"scaled":"true"' in answer.content


@pytest.mark.parametrize("format_", ["json", "safetensors"])
async def test_latents_say_themselves_whether_they_are_scaled(client: httpx.AsyncClient, format_: str) -> None:
    """Scaled latents are decoded to the picture of the same latents that are not scaled."""
    pictures = []
    for scaled in ("true", "false"):
        encoded = await client.post(f"/v1/encode?scaled={scaled}&format={format_}", content=png(8, 8), headers=PNG)
        headers = {"Content-Type": encoded.headers["Content-Type"]}
        pictures.append(await client.post("/v1/decode?format=npy", content=encoded.content, headers=headers))

    one, other = (np.load(io.BytesIO(picture.content)).astype(int) for picture in pictures)
    assert abs(one - other).max() <= 1


async def test_latents_in_npy_are_scaled_if_the_header_says_so(client: httpx.AsyncClient, network: TAESD) -> None:
    """npy has no metadata."""
    latents = network.encode(as_images(pixels(8, 8))).mean
    body = io.BytesIO()
    np.save(body, ((latents - 0.25) * 0.5).numpy())
    headers = {"Content-Type": "application/x-npy", "X-Latent-Space": "sd1;scaled"}

    answer = await ok(await client.post("/v1/decode?format=npy", content=body.getvalue(), headers=headers))

    expected = network.decode(latents).mean.permute(0, 2, 3, 1) * 255
    np.testing.assert_allclose(np.load(io.BytesIO(answer.content)), expected.numpy(), atol=0.51)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
async def test_latents_come_in_the_type_that_is_asked_for(client: httpx.AsyncClient, dtype: str) -> None:
    """Decode takes each of them."""
    address = f"/v1/encode?format=safetensors&dtype={dtype}"
    encoded = await ok(await client.post(address, content=png(8, 8), headers=PNG))

    latents = safetensors.torch.load(encoded.content)["latents"]
    assert str(latents.dtype) == f"torch.{dtype}"
    await ok(await client.post("/v1/decode", content=encoded.content, headers=SAFETENSORS))


@pytest.mark.parametrize(("format_", "dtype"), [("json", "float16"), ("npy", "bfloat16")])
async def test_type_that_the_format_lacks_is_refused(client: httpx.AsyncClient, format_: str, dtype: str) -> None:
    """The message names the types of the format."""
    answer = await client.post(f"/v1/encode?format={format_}&dtype={dtype}", content=png(8, 8), headers=PNG)

    assert answer.status_code == 422
    assert "dtype must be float32" in answer.json()["detail"]


async def test_jpeg_has_the_quality_that_is_asked_for(client: httpx.AsyncClient) -> None:
    """A lower quality is a smaller file."""
    address = "/v1/reconstruct?format=jpeg&jpeg_quality="
    small, large = [
        await ok(await client.post(f"{address}{quality}", content=png(64, 64), headers=PNG)) for quality in (10, 95)
    ]

    assert len(small.content) < len(large.content)


async def test_preview_is_decoded_by_the_model_that_the_card_names(client: httpx.AsyncClient) -> None:
    """The latents are scaled in between: the small model has another scaling."""
    latents = torch.randn(1, 4, 2, 2)
    as_scaled = (latents - SCALING.shift) * SCALING.factor
    full, small = (safetensors.torch.save({"latents": each}) for each in (latents, as_scaled))

    preview = await ok(await client.post("/v1/decode?quality=preview&format=npy", content=full, headers=SAFETENSORS))
    expected = await ok(await client.post("/v1/models/small/decode?format=npy", content=small, headers=SAFETENSORS))

    assert preview.headers["X-Model"] == "small@1"
    assert preview.content == expected.content


async def test_a_picture_is_resized_or_padded_but_not_both(client: httpx.AsyncClient) -> None:
    """The resizing was left out without a word."""
    answer = await client.post("/v1/encode?resize=cover&fit=pad", content=png(61, 63), headers=PNG)

    assert answer.status_code == 422
    assert "resize=cover and fit=pad exclude each other" in answer.json()["detail"]


async def test_model_without_a_preview_says_so(client: httpx.AsyncClient) -> None:
    """The message names the other quality."""
    body = safetensors.torch.save({"latents": torch.zeros(1, 16, 2, 2)})

    answer = await client.post("/v1/models/wide/decode?quality=preview", content=body, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "wide@1 has no preview; leave out quality" in answer.json()["detail"]


async def test_large_json_of_latents_is_taken_back(client: httpx.AsyncClient) -> None:
    """A large body is read in a process, which sends back plain values."""
    encoded = await ok(await client.post("/v1/encode?scaled=true", content=png(128, 128), headers=PNG))
    assert len(encoded.content) > LIGHT_BYTES

    decoded = await ok(await client.post("/v1/decode?format=json", content=encoded.content, headers=JSON))

    assert [*sizes_in(decoded)] == [(128, 128)]


@pytest.mark.parametrize("metadata", ['{"scaled":"True"}', '{"latent_space":"a b"}'])
async def test_words_that_mean_something_else_are_refused(client: httpx.AsyncClient, metadata: str) -> None:
    """Python writes True; taken as not said, it would give another picture."""
    answer = await client.post("/v1/decode", content=with_metadata(metadata), headers=SAFETENSORS)

    assert answer.status_code == 422


async def test_metadata_may_be_null(client: httpx.AsyncClient) -> None:
    """There is a writer that puts null where others put an empty object."""
    await ok(await client.post("/v1/decode", content=with_metadata("null"), headers=SAFETENSORS))


def with_metadata(metadata: str) -> bytes:
    """A latent of zeros in safetensors, with that text as its metadata."""
    tensor = '{"dtype":"F32","shape":[1,4,1,1],"data_offsets":[0,16]}'
    head = f'{{"__metadata__":{metadata},"latents":{tensor}}}'.encode()
    return len(head).to_bytes(8, "little") + head + bytes(16)


async def test_scaled_latents_of_other_channels_are_refused(client: httpx.AsyncClient) -> None:
    """They are compared with the model before the numbers of the card are applied."""
    body = safetensors.torch.save({"latents": torch.zeros(1, 1, 2, 2)})

    answer = await client.post("/v1/decode?scaled=true", content=body, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "A latent is 1×2×2, but tiny@1 takes 4×any×any" in answer.json()["detail"]


async def test_fault_names_the_place_in_the_request(client: httpx.AsyncClient) -> None:
    """The second latent has another shape, and a number that is too large."""
    latents = [np.zeros((4, 1, 1)).tolist(), np.full((4, 1, 2), 99_999).tolist()]

    answer = await client.post("/v1/decode?format=json", json={"latents": latents})

    assert (answer.status_code, answer.json()["index"]) == (422, 1)


async def test_sizes_count_with_their_own_pixels(client: httpx.AsyncClient) -> None:
    """Thumbnails beside a large picture are not counted as large as the picture."""
    files = [("file", png(8, 8)), *[("file", png(200, 256))] * 3, *[("file", png(8, 8))] * 10]

    answer = await ok(await client.post("/v1/encode?format=safetensors", files=files))

    assert len(tensors_in(answer)) == 2 * len(files)


async def test_many_pictures_of_alternating_sizes_are_read(client: httpx.AsyncClient) -> None:
    """Each run of one size takes the memory of its own pictures."""
    files = [("file", png(8, 8 + 8 * (number % 2))) for number in range(16)]

    answer = await ok(await client.post("/v1/encode?format=safetensors", files=files))

    assert len(tensors_in(answer)) == 32


async def test_one_picture_as_npy_is_not_read_as_rows(client: httpx.AsyncClient) -> None:
    """Padding would make an image of each row of the picture."""
    body = io.BytesIO()
    np.save(body, pixels(16, 24))

    answer = await client.post(
        "/v1/encode?fit=pad", content=body.getvalue(), headers={"Content-Type": "application/x-npy"}
    )

    assert answer.status_code == 422
    assert "send one picture with channels in the shape (1, 16, 24, 3)" in answer.json()["detail"]


async def test_arrays_of_the_same_shape_are_one_run(client: httpx.AsyncClient) -> None:
    """Then every format has room for them."""
    zeros = torch.zeros(4, 1, 1)
    body = safetensors.torch.save({"latents.0": zeros, "latents.1": zeros.clone()})

    answer = await ok(await client.post("/v1/decode?format=npy", content=body, headers=SAFETENSORS))

    assert np.load(io.BytesIO(answer.content)).shape == (2, 8, 8, 3)


async def test_latents_of_another_space_are_refused(client: httpx.AsyncClient) -> None:
    """The message names both spaces with their shapes, and the served model that decodes these latents."""
    encoded = await client.post("/v1/models/wide/encode?format=safetensors", content=png(8, 16), headers=PNG)

    answer = await client.post("/v1/decode", content=encoded.content, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert answer.json()["detail"] == (
        "These are flux1 latents (16×1×2); tiny@1 decodes sd1 (4×any×any); served models that can: wide@1."
    )


async def test_words_that_contradict_each_other_are_refused(client: httpx.AsyncClient) -> None:
    """The body says raw, and the query says scaled."""
    encoded = await client.post("/v1/encode?format=safetensors", content=png(8, 8), headers=PNG)

    answer = await client.post("/v1/decode?scaled=true", content=encoded.content, headers=SAFETENSORS)

    assert answer.status_code == 422
    assert "leave out one of the two" in answer.json()["detail"]


@pytest.mark.parametrize("operation", ["sample", "traverse"])
async def test_operation_without_a_meaning_is_refused(client: httpx.AsyncClient, operation: str) -> None:
    """The message says why, and names another operation."""
    answer = await client.get(f"/v1/{operation}")

    assert answer.status_code == 422
    assert "interpolate between" in answer.json()["detail"]


async def test_interpolation_between_grids(client: httpx.AsyncClient) -> None:
    """Two pictures of the same size have five between them and at the ends."""
    files = [("file", png(8, 16)), ("file", png(8, 16))]

    answer = await ok(await client.post("/v1/interpolate?steps=5&format=npy", files=files))

    assert np.load(io.BytesIO(answer.content)).shape == (5, 8, 16, 3)


async def test_tiled_answer_says_so_and_is_the_whole_ones(client: httpx.AsyncClient) -> None:
    """X-Tiling has the grid, the overlap, and whether the answer is exact."""
    body = png(200, 256)
    whole = await ok(await client.post("/v1/encode?format=safetensors", content=body, headers=PNG))
    tiled = await ok(await client.post("/v1/encode?format=safetensors&tile=128", content=body, headers=PNG))

    assert "X-Tiling" not in whole.headers
    assert tiled.headers["X-Tiling"] == "2x2; overlap=144; exact=true"
    np.testing.assert_allclose(tensors_in(tiled)["latents"], tensors_in(whole)["latents"], atol=1e-5)


async def test_memory_that_runs_out_gives_smaller_tiles(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole picture does not fit, and its halves do; the header says so."""

    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError

    registry = client._transport.app.state.parts.registry  # type: ignore[attr-defined]
    monkeypatch.setitem(registry.find(None).runner.forward_passes, "encode", too_large)
    answer = await ok(await client.post("/v1/encode?format=safetensors", content=png(200, 256), headers=PNG))

    assert answer.headers["X-Tiling"] == "2x2; overlap=144; exact=true"


async def test_list_of_models_tells_shapes_and_operations(client: httpx.AsyncClient) -> None:
    """Sides of any size are null, and the downscale says which sizes fit."""
    models = (await client.get("/v1/models")).json()["models"]

    assert models[1]["image_shape"] == [3, None, None]
    assert models[1]["latent_shape"] == [4, None, None]
    assert models[1]["downscale"] == 8
    assert models[1]["operations"] == ["encode", "decode", "reconstruct", "interpolate"]


async def test_start_page_shows_a_model_that_makes_no_images_of_its_own(client: httpx.AsyncClient) -> None:
    """The page loads no picture for this model."""
    page = (await client.get("/")).text

    assert "tiny@1" in page
    assert "<img" not in page.partition("<article>")[2]
