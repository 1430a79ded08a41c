import base64

import pytest

from llmsnap.simulator.files import png

PNG = base64.b64encode(png("a cat")).decode()


def test_generations(sim):
    answer = sim.post("/v1/images/generations", {"prompt": "a cat", "n": 2}).json
    assert answer["data"] == [{"b64_json": PNG, "revised_prompt": "a cat"}] * 2


def test_generations_as_url(sim):
    body = {"prompt": "a cat", "response_format": "url"}
    answer = sim.post("/v1/images/generations", body).json
    assert answer["data"][0]["url"] == f"data:image/png;base64,{PNG}"


def test_generations_of_nothing_are_refused(sim):
    assert sim.post("/v1/images/generations", {}).status == 400


def edit(sim, **fields):
    parts = "".join(
        f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in {"prompt": "a cat", **fields}.items()
    )
    parts += (
        '--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n1234\r\n--xx--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    return sim.post("/v1/images/edits?model=m", parts.encode(), **kind)


def test_edits_tell_what_arrived(sim):
    answer = edit(sim).json
    assert answer["data"][0]["b64_json"] == PNG
    told = "a cat; a.png has 4 bytes of image/png, for m"
    assert answer["data"][0]["revised_prompt"] == told


@pytest.mark.parametrize("kind", ["image_generation", "image_edit"])
@pytest.mark.parametrize(("partial", "shown"), [(0, 0), (2, 2), (1000, 3)])
def test_images_can_be_streamed(sim, kind, partial, shown):
    if kind == "image_edit":
        answer = edit(sim, stream="true", partial_images=partial)
    else:
        body = {"prompt": "a cat", "stream": True, "partial_images": partial}
        answer = sim.post("/v1/images/generations", body)
    assert answer.headers["Content-Type"] == "text/event-stream"
    names = [*[f"{kind}.partial_image"] * shown, f"{kind}.completed"]
    assert [name for name, _ in answer.events] == names
    assert [event["type"] for _, event in answer.events] == names
    assert {event["b64_json"] for _, event in answer.events} == {PNG}
    *partials, (_, completed) = answer.events
    assert [event["partial_image_index"] for _, event in partials] == list(range(shown))
    assert completed["usage"]["total_tokens"] == 3


def test_a_number_in_a_form_is_one(sim):
    assert edit(sim, stream="true", partial_images="-1").status == 400


def test_images_have_a_usage(sim):
    asked = sim.post("/v1/images/generations", {"prompt": "a cat", "n": 2})
    assert [answer.json["usage"]["output_tokens"] for answer in (asked, edit(sim))] == [2, 1]


def test_the_web_ui_of_stable_diffusion(sim):
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
        answer = sim.post(path, {"prompt": "a cat", "batch_size": 2}).json
        assert answer["images"] == [PNG, PNG]
        assert answer["parameters"]["prompt"] == "a cat"
    assert sim.get("/sdapi/v1/loras").json[0]["name"] == "simulated-lora"
