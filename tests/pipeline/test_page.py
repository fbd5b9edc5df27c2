"""The page in a real browser, on a real server with a model that was trained for a moment."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from tests.pipeline.conftest import run_here
from tests.service.conftest import Server, has_event, start_server, wait_until

from sfumato.model.trained import TrainedModel
from sfumato.service.client import ServiceClient

CHROMIUM = Path("/usr/bin/chromium")
# No graphics card is needed: Chromium computes WebGL itself.
ARGUMENTS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
WAIT_MS = 60_000
TOKEN = "a-token-for-this-test-only"
STRUCTURES = ("shell [outer]", "core")
LINES = """(canvas) => {
  const [w, h] = [canvas.width >> 1, canvas.height >> 1];
  const { data } = canvas.getContext("2d").getImageData(0, 0, w, h);
  const [xs, ys] = [[], []];
  for (let i = 0; i < w * h; i++) {
    if (data[4 * i + 3] > 60) { xs.push(i % w); ys.push(Math.floor(i / w)); }
  }
  return [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
}"""
"""Where the lines end that are drawn over the upper left plane: left, right, top, bottom."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}; install the package chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory,
    calibrated_run: Path,
    flat_run: Path,
    volume_data: Path,
) -> Iterator[Server]:
    # Models are called by their folders.
    folder = tmp_path_factory.mktemp("models")
    for name, run in (("balls", calibrated_run), ("discs", flat_run), ("few", calibrated_run)):
        shutil.copytree(run / "model", folder / name / "model")
    # As if more cases had been held back: five are too few for an interval.
    balls = TrainedModel.load(calibrated_run)
    errors = {name: 6 * known for name, known in balls.volume_errors.items()}
    replace(balls, volume_errors=errors).save(folder / "balls" / "model")
    running = start_server(
        tmp_path_factory.mktemp("served"), folder / "balls", folder / "discs", folder / "few",
        "--dataset", volume_data,
    )  # fmt: skip
    wait_until(lambda: has_event(running, "worker_ready"), running)
    yield running
    running.stop()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages on which no script may fail, and which may fetch nothing from elsewhere."""
    contexts, complaints = [], []

    def listen(message: ConsoleMessage) -> None:
        # What the server refuses on purpose, the browser notes by itself.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def open_at(address: str, width: int = 1280, height: int = 900, **options: object) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", listen)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        own = ("data:", "blob:", address.split("#")[0])
        page.on("request", lambda r: None if r.url.startswith(own) else complaints.append(r.url))
        page.goto(address)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="module")
def volume_job(server: Server, volume_data: Path) -> str:
    """Give a job that is done."""
    client = ServiceClient(server.url)
    *_, done = client.watch(client.send("balls", [volume_data / "images/case_07.nii.gz"])["id"])
    assert done["state"] == "done"
    return str(done["id"])


def send(page: Page, image: Path, model: str) -> None:
    with page.expect_file_chooser() as chosen:
        page.locator("#files").click()
    chosen.value.set_files(image)
    page.get_by_label("Model").select_option(model)
    page.get_by_role("button", name="Segment", exact=True).click()


def open_job(open_page: Callable[..., Page], server: Server, job: str, **options: object) -> Page:
    page = open_page(f"{server.url}/#segment/{job}", **options)
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=WAIT_MS)
    return page


def pixels(shown: Locator) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(shown.screenshot())).convert("RGB")).astype(int)


def n_orange(shown: Locator) -> int:
    """Count the pixels in the first class's colour, which grey images do not have."""
    red, green, blue = np.moveaxis(pixels(shown), -1, 0)
    return int(np.count_nonzero((red > green + 25) & (green > blue + 15)))


def test_an_image_is_sent_watched_and_deleted(
    open_page: Callable[..., Page], server: Server, volume_data: Path
) -> None:
    page = open_page(f"{server.url}/")
    send(page, volume_data / "images" / "case_03.nii.gz", "balls")
    expect(page.get_by_role("heading", name="case_03", exact=True)).to_be_visible()
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("#jobs .open[aria-current]")).to_contain_text("done")
    # The address names the job, so that it is there again after a reload.
    page.reload()
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=WAIT_MS)
    page.get_by_role("button", name="Delete case_03").click()
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("button", name="Delete case_03").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.get_by_role("link", name="case_03")).to_have_count(0)
    expect(page.get_by_role("heading", name="See where a structure is")).to_be_visible()


def test_volumes_come_with_intervals_and_at_any_threshold(
    open_page: Callable[..., Page], server: Server, volume_job: str
) -> None:
    page = open_job(open_page, server, volume_job)
    table = page.get_by_role("table")
    for name in STRUCTURES:
        expect(table.get_by_role("rowheader", name=name)).to_be_visible()
    expect(table.get_by_role("columnheader", name="90 % interval")).to_be_visible()
    expect(page.get_by_text("In 90 of 100 images")).to_be_visible()
    sizes = []
    for percent in (5, 95):
        page.get_by_label("Probability at least").fill(str(percent))
        expect(page.get_by_role("radio", name="Threshold")).to_be_checked()
        expect(table.get_by_role("columnheader", name=f"at ≥ {percent} %")).to_be_visible()
        sizes.append([float(t) for t in table.locator("td.threshold").all_text_contents()])
    assert all(low > high for low, high in zip(*sizes, strict=True))


def test_a_missing_interval_is_explained(
    open_page: Callable[..., Page], server: Server, volume_data: Path
) -> None:
    page = open_page(f"{server.url}/")
    send(page, volume_data / "images" / "case_04.nii.gz", "few")
    expect(page.get_by_text("There is no interval: too few cases")).to_be_visible(timeout=WAIT_MS)
    # The other channel is another image on the same grid.
    stage = page.locator(".stage")
    page.get_by_label("Opacity").fill("0")
    first = stage.screenshot()
    with page.expect_response("**/image-2.nii.gz"):
        page.get_by_label("Channel").select_option("2 of 2")
    page.wait_for_timeout(500)
    assert stage.screenshot() != first


def test_structures_are_shown_hidden_and_made_transparent(
    open_page: Callable[..., Page], server: Server, volume_job: str
) -> None:
    page = open_job(open_page, server, volume_job)
    stage = page.locator(".stage")
    page.get_by_label("Uncertain band").uncheck()
    page.get_by_label("Opacity").fill("100")
    page.wait_for_timeout(500)
    shown = n_orange(stage)
    assert shown > 1000
    page.get_by_label(f"Show {STRUCTURES[0]}").uncheck()
    page.wait_for_timeout(500)
    assert n_orange(stage) < shown / 4


def test_contours_lie_where_the_structure_lies(
    open_page: Callable[..., Page], server: Server, volume_job: str, tmp_path: Path
) -> None:
    """The volume's axes run to superior, left and posterior; planes show them as a patient lies."""
    page = open_job(open_page, server, volume_job)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Segmentation", exact=True).click()
    saved.value.save_as(tmp_path / "label.nii.gz")
    label = nibabel.as_closest_canonical(nibabel.load(tmp_path / "label.nii.gz"))
    values = np.asarray(label.dataobj)
    axial = page.get_by_label("Axial")
    index = int(axial.input_value())
    # The page begins within a structure.
    where = [int(page.get_by_label(n).input_value()) for n in ("Sagittal", "Coronal")]
    assert values[(*where, index)] > 0

    page.get_by_label("Uncertain band").uncheck()
    page.get_by_label("Probability at least").fill("50")
    page.wait_for_timeout(500)
    left, right, top, bottom = page.locator("canvas.lines").evaluate(LINES)
    plane = values[:, :, index] > 0
    columns, rows = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
    # Seen from the feet: the patient's right is on the left, anterior is up.
    width_mm, height_mm = label.header.get_zooms()[:2] * np.array(plane.shape)
    box = page.locator("canvas.lines").bounding_box()
    assert box is not None
    scale = min(box["width"] / 2 / width_mm, box["height"] / 2 / height_mm)
    x_mm, y_mm = label.header.get_zooms()[:2]
    centre_x = box["width"] / 4 - ((columns[0] + columns[-1] + 1) * x_mm - width_mm) / 2 * scale
    centre_y = box["height"] / 4 - ((rows[0] + rows[-1] + 1) * y_mm - height_mm) / 2 * scale
    assert (left + right) / 2 == pytest.approx(centre_x, abs=1.2 * scale)
    assert (top + bottom) / 2 == pytest.approx(centre_y, abs=1.2 * scale)
    assert right - left == pytest.approx(np.ptp(columns) * x_mm * scale, abs=3 * scale)


def test_planes_are_moved_with_the_keyboard(
    open_page: Callable[..., Page], server: Server, volume_job: str
) -> None:
    page = open_job(open_page, server, volume_job)
    axial = page.get_by_label("Axial")
    before, readout = int(axial.input_value()), page.locator(".readout")
    said = readout.text_content()
    axial.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert int(axial.input_value()) == before + 2
    expect(readout).not_to_have_text(said or "")
    expect(axial).to_have_attribute("aria-valuetext", f"{before + 3} of 14")


def test_superpixels_are_drawn_when_asked_for(
    open_page: Callable[..., Page], server: Server, volume_job: str
) -> None:
    page = open_job(open_page, server, volume_job)
    page.get_by_label("Uncertain band").uncheck()
    with page.expect_response("**/superpixels?*"):
        page.get_by_label("Superpixel borders").check()
    page.wait_for_timeout(500)
    left, right, _, _ = page.locator("canvas.lines").evaluate(LINES)
    assert right - left > 50
    with page.expect_response("**/superpixels?*") as answer:
        page.get_by_label("Size").fill("12")
    assert answer.value.ok


def test_a_picture_has_one_pane_and_an_area(
    open_page: Callable[..., Page], server: Server, flat_data: Path
) -> None:
    page = open_page(f"{server.url}/")
    send(page, flat_data / "images" / "case_01.png", "discs")
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=WAIT_MS)
    expect(page.get_by_role("columnheader", name="Area (mm²)")).to_be_visible()
    expect(page.locator(".slices")).to_be_hidden()
    expect(page.locator(".readout")).to_contain_text("Column")
    # The picture lies as its file: bright where the file is bright.
    page.get_by_label("Opacity").fill("0")
    page.get_by_label("Uncertain band").uncheck()
    page.wait_for_timeout(500)
    shown = pixels(page.locator(".stage"))[..., 2]
    image = Picture.open(flat_data / "images" / "case_01.png")
    height = shown.shape[0]
    width = round(height * image.width / image.height)
    start = max((shown.shape[1] - width) // 2, 0)
    part = Picture.fromarray(shown[:, start : start + width].astype(np.uint8)).resize(image.size)
    likeness = np.corrcoef(np.asarray(part).ravel(), np.asarray(image).ravel())[0, 1]
    assert likeness > 0.9


def test_files_can_be_dropped(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page(f"{server.url}/")
    expect(page.get_by_label("Model")).to_have_value("balls")
    dropped = page.evaluate_handle(
        "() => { const t = new DataTransfer(); t.items.add(new File(['x'], 'a.png')); return t; }"
    )
    page.locator("#drop").dispatch_event("drop", {"dataTransfer": dropped})
    expect(page.locator("#chosen")).to_contain_text("a.png")
    expect(page.get_by_role("button", name="Segment", exact=True)).to_be_focused()
    page.get_by_role("button", name="Take the files away").click()
    expect(page.get_by_role("button", name="Segment", exact=True)).to_be_disabled()


def test_errors_are_plain_sentences(
    open_page: Callable[..., Page], server: Server, tmp_path: Path
) -> None:
    page = open_page(f"{server.url}/")
    (tmp_path / "notes.txt").write_text("no image")
    send(page, tmp_path / "notes.txt", "balls")
    error = page.locator("#new-error")
    expect(error).to_be_visible()
    words = error.text_content() or ""
    assert words[0].isupper()
    assert words.endswith(".")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no more")
    send(page, tmp_path / "broken.png", "discs")
    expect(page.locator("#new-error:visible, #result .error").first).to_be_visible()


def test_a_token_is_asked_for_and_kept(
    open_page: Callable[..., Page], flat_run: Path, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    server = start_server(tmp_path / "served", flat_run, "--token-file", tmp_path / "token")
    try:
        page = open_page(f"{server.url}/")
        token = page.get_by_label("Token", exact=True)
        token.fill("a wrong one")
        page.get_by_role("button", name="Continue").click()
        expect(page.get_by_text("This token was not accepted.")).to_be_visible()
        token.fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_label("Model")).to_have_value(flat_run.name)
        page.reload()
        expect(page.get_by_label("Model")).to_have_value(flat_run.name)
        expect(page.get_by_role("dialog")).to_be_hidden()
    finally:
        server.stop()


def canvas_pixels(page: Page, name: str) -> str:
    drawn: str = page.get_by_role("img", name=name, exact=True).evaluate("(c) => c.toDataURL()")
    return drawn


def test_labels_are_softened_anew_as_sliders_move(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page(f"{server.url}/")
    page.get_by_role("tab", name="Labels").click()
    sentence = page.locator("#sentence")
    expect(sentence).to_contain_text("% of this volume")
    expect(sentence).to_contain_text("ms.")
    page.get_by_label("Class", exact=True).select_option(label=STRUCTURES[0])
    usual = sentence.text_content() or ""
    page.wait_for_timeout(500)
    before = {name: canvas_pixels(page, name) for name in ("Hard label", "Soft label")}
    page.get_by_label("Superpixel size").fill("12")
    expect(sentence).not_to_have_text(usual)
    page.wait_for_timeout(300)
    assert canvas_pixels(page, "Soft label") != before["Soft label"]
    assert canvas_pixels(page, "Hard label") == before["Hard label"]
    page.get_by_label("Softener").select_option("none")
    expect(sentence).to_contain_text("stays hard everywhere")
    expect(page.get_by_label("Superpixel size")).to_be_disabled()
    page.get_by_role("button", name="Usual settings").click()
    expect(sentence).to_contain_text((usual.split("; ")[0]).split(" cross")[0])
    page.get_by_role("button", name="Next case").click()
    expect(page.get_by_label("Training case")).to_have_value("case_01")


def test_pixels_of_labels_are_read_with_the_keyboard(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page(f"{server.url}/#labels")
    expect(page.locator("#sentence")).to_contain_text("%")
    page.get_by_role("img", name="Soft label").focus()
    page.keyboard.press("ArrowRight")
    readout = page.locator("#labels .readout")
    expect(readout).to_contain_text("drawn as")
    said = readout.text_content() or ""
    page.keyboard.press("ArrowDown")
    expect(readout).not_to_have_text(said)
    page.get_by_label("Slice").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_label("Slice")).to_have_attribute("aria-valuetext", "9 of 14")


def test_tabs_are_changed_with_arrow_keys(open_page: Callable[..., Page], server: Server) -> None:
    page = open_page(f"{server.url}/")
    page.get_by_role("tab", name="Segment").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Labels")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Labels")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("tabpanel", name="Segment")).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_letters_stand_out_and_nothing_is_cut_off_at_200_percent(
    open_page: Callable[..., Page], server: Server, volume_job: str, colours: str
) -> None:
    page = open_job(
        open_page, server, volume_job, width=640, height=450, color_scheme=colours,
        device_scale_factor=2,
    )  # fmt: skip
    for tab in ("Segment", "Labels"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 640
        for place in ("h1", "[role=tab]", "h2:visible", ".small:visible", "button:visible"):
            assert contrast(page.locator(place).first) >= 4.5, (place, colours)


def contrast(letters: Locator) -> float:
    """Measure how letters stand out from what is behind them, as WCAG does."""
    colours: list[str] = letters.evaluate(
        """(node) => {
          const ink = getComputedStyle(node).color;
          let behind = "rgba(0, 0, 0, 0)";
          for (; node && behind === "rgba(0, 0, 0, 0)"; node = node.parentElement) {
            behind = getComputedStyle(node).backgroundColor;
          }
          return [ink, behind];
        }"""
    )
    light, dark = sorted((luminance(colour) for colour in colours), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([float(part) for part in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_the_switch_turns_light_into_dark_and_is_kept(
    open_page: Callable[..., Page], server: Server
) -> None:
    page = open_page(f"{server.url}/", color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Make the page dark").click()
    dark = page.evaluate(ground)
    assert luminance(dark) < 0.1 < luminance(light)
    page.reload()
    expect(page.get_by_role("button", name="Make the page light")).to_be_visible()
    assert page.evaluate(ground) == dark


def test_a_report_shows_its_worst_cases_without_a_server(
    open_page: Callable[..., Page], volume_data: Path, calibrated_run: Path, tmp_path: Path
) -> None:
    images = [volume_data / "images" / f"case_{i:02}.nii.gz" for i in range(3)]
    for outcome in (
        run_here(
            "segment", calibrated_run, *images, "--out", tmp_path / "found", "--probabilities"
        ),
        run_here("evaluate", volume_data, tmp_path / "found", "--out", tmp_path / "report"),
    ):
        assert outcome.code == 0, outcome.err
    page = open_page((tmp_path / "report" / "report.html").as_uri())
    expect(page.get_by_text("without a network")).to_be_visible()
    page.get_by_role("button", name="Look at it in three planes and 3-D").first.click()
    expect(page.get_by_label("Reference, white line")).to_be_visible(timeout=WAIT_MS)
    page.get_by_label("Uncertain band").uncheck()
    page.wait_for_timeout(500)
    assert n_orange(page.locator(".stage")) > 500
    left, right, _, _ = page.locator("canvas.lines").evaluate(LINES)
    assert right - left > 50
    page.get_by_label("Reference, white line").uncheck()
    drawn = page.locator("canvas.lines").evaluate(LINES)
    assert drawn[0] is None or drawn[0] > drawn[1]
