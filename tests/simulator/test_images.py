import base64

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


def test_edits_tell_what_arrived(sim):
    parts = (
        '--xx\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat\r\n'
        '--xx\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n1234\r\n--xx--\r\n"
    )
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    answer = sim.post("/v1/images/edits?model=m", parts.encode(), **kind).json
    assert answer["data"][0]["b64_json"] == PNG
    told = "a cat; a.png has 4 bytes of image/png, for m"
    assert answer["data"][0]["revised_prompt"] == told


def test_the_web_ui_of_stable_diffusion(sim):
    for path in ("/sdapi/v1/txt2img", "/sdapi/v1/img2img"):
        answer = sim.post(path, {"prompt": "a cat", "batch_size": 2}).json
        assert answer["images"] == [PNG, PNG]
        assert answer["parameters"]["prompt"] == "a cat"
    assert sim.get("/sdapi/v1/loras").json[0]["name"] == "simulated-lora"
