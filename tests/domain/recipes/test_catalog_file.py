"""The catalog's files: a mistake learns with its line, and one's own file goes on top of the shipped one."""

import re
from pathlib import Path

import pytest

from domain.recipes.catalog import FIELDS
from domain.recipes.catalog_file import CatalogError, CatalogFile, read_catalog
from tests.domain.catalogs import SHIPPED, catalog_of

STEPS = "must be a whole number from 1 to 100"
WIDTH = "must be a whole number from 64 to 2048, a multiple of 8"
GUIDANCE = "must be a number from 0 to 20"

# What a catalog that is wrong learns: the file, the line, the entry, and what is allowed.


def line_of(text: str, part: str) -> int:
    """The line, from 1, where a part begins for the first time."""
    return text[: text.index(part)].count("\n") + 1


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("width = 1024", "widht = 1024", "[models.sdxl]: models.sdxl.width: is required"),
        ("width = 1024", "width = 1024\nwidht = 1", "widht: models.sdxl.widht: unknown field"),
        ("width = 1024", 'width = "1024"', "width: models.sdxl.width: must be a whole number"),
        ("width = 1024", "width = true", "width: models.sdxl.width: must be a whole number"),
        ("width = 1024", "width = 1024.0", "width: models.sdxl.width: must be a whole number"),
        ("width = 1024", "width = 32", "width: models.sdxl.width: must be at least 64"),
        ("width = 1024", "width = 100", f"width: models.sdxl.width: {WIDTH}"),
        ('tasks = ["t2i", "i2i", "multi"]', 'tasks = ["paint"]', "tasks: models.sdxl.tasks.0: must be t2i"),
        ('tasks = ["t2i", "i2i", "multi"]', "tasks = []", "tasks: models.sdxl.tasks: "),
        (
            'references = ["composition", "style',
            'references = ["mood", "style',
            "references: models.sdxl.references.0: ",
        ),
        (
            "overrides = { guidance = 2.0 }",
            "overrides = { guidance = 99.0 }",
            f"overrides: models.sdxl-demo.overrides.guidance: {GUIDANCE}",
        ),
        (
            "overrides = { guidance = 2.0 }",
            "overrides = { gidance = 2.0 }",
            "overrides: models.sdxl-demo.overrides.gidance: 'gidance' is not in params",
        ),
        (
            'model = "sdxl-demo"',
            'model = "sd3"',
            "model: FAST.model: names 'sd3', which is not in models",
        ),
        ('task = "t2i"', 'task = "i2v"', "task: FAST.task: is i2v, which 'sdxl-demo' cannot do"),
        ('kind = "image"', 'kind = "sound"', "kind: FAST.kind: "),
        ('kind = "image"', 'kind = "video"', "task: FAST.task: is t2i, which makes no video"),
        ('extension = "png"', 'extension = "exe"', "extension: FAST.extension: "),
        (
            'extension = "png"',
            'extension = "mp4"',
            "extension: FAST.extension: must be png for a image",
        ),
        ('bucket = "sdxl_image_fast"', 'bucket = "../etc"', "bucket: FAST.bucket: "),
        ("quantities = [1, 3, 6]", "quantities = []", "quantities: FAST.quantities: "),
        ("quantities = [1, 3, 6]", "quantities = [1, 0]", "quantities: FAST.quantities.1: "),
        ("quantities = [1, 3, 6]", "quantities = [true]", "quantities: FAST.quantities.0: "),
        ("expected_s = 4", "expected_s = 0", "expected_s: FAST.expected_s.0: "),
        ("expected_s = 4", "expected_s = inf", "expected_s: FAST.expected_s.0: "),
        (
            "expected_s = 4",
            "expected_s = [9, 4]",
            "expected_s: FAST.expected_s: has its least above",
        ),
        (
            "defaults = { steps = 15",
            "defaults = { stepz = 15",
            "defaults: FAST.defaults.stepz: 'stepz' is not in params",
        ),
        (
            "defaults = { steps = 15",
            "defaults = { frames = 17, steps = 15",
            "defaults: FAST.defaults.frames: is not among",
        ),
        ("defaults = { steps = 15, ", "defaults = { ", "defaults: FAST.defaults: lacks steps"),
        (
            "defaults = { steps = 15",
            "defaults = { steps = 101",
            f"defaults: FAST.defaults.steps: {STEPS}",
        ),
        (
            "defaults = { steps = 15",
            "defaults = { steps = 15.5",
            f"defaults: FAST.defaults.steps: {STEPS}",
        ),
        (
            "defaults = { steps = 15",
            "defaults = { steps = true",
            f"defaults: FAST.defaults.steps: {STEPS}",
        ),
        (
            '"sampler", "karras"]',
            '"karras"]',
            "params: FAST.params: has karras without what it depends on: sampler",
        ),
        ('"sampler", "karras"]', '"stepz"]', "params: FAST.params: names 'stepz'"),
        (
            'type = "boolean"',
            'type = "text"',
            "type: params.karras.type: must be integer, number, choice or boolean",
        ),
        (
            "minimum = 1\nmaximum = 100",
            "minimum = 200\nmaximum = 100",
            "[params.steps]: params.steps: minimum is above maximum",
        ),
        (
            "minimum = 1\nmaximum = 100",
            "maximum = 100",
            "[params.steps]: params.steps: a number needs minimum and maximum",
        ),
        (
            "minimum = 1\nmaximum = 100",
            "minimum = 1\nmaximum = inf",
            "maximum: params.steps.maximum: must be a finite number",
        ),
        ("multiple_of = 8", "multiple_of = 0", "multiple_of: params.width.multiple_of: "),
        (
            'default = "euler"',
            'default = "ddim"',
            "[params.sampler]: params.sampler: default must be one of euler, dpm++",
        ),
        (
            'depends_on = { sampler = "dpm++" }',
            'depends_on = { sampler = "ddim" }',
            "depends_on: params.karras.depends_on.sampler: must be one of euler",
        ),
        (
            'depends_on = { sampler = "dpm++" }',
            'depends_on = { smpler = "dpm++" }',
            "depends_on: params.karras.depends_on.smpler: 'smpler' is not in params",
        ),
        (
            'depends_on = { sampler = "dpm++" }',
            "depends_on = { karras = true }",
            "[params.karras]: params.karras: depends on itself: karras → karras",
        ),
    ],
    ids=lambda text: text[:32].strip(),
)
def test_a_catalog_that_is_wrong_names_line_and_entry(right: str, wrong: str, told: str) -> None:
    assert right in SHIPPED
    text = SHIPPED.replace(right, wrong, 1)
    where, _, sentence = told.replace("FAST", "job_types.sdxl_image_fast").partition(": ")
    entry = sentence.split(":")[0].split(".")
    table = f"[{entry[0]}.{entry[1]}]"
    start = text.index(table)
    part = text[start:]
    line = line_of(text, table) if where.startswith("[") else line_of(text, table) + line_of(part, f"\n{where} =")
    with pytest.raises(CatalogError) as caught:
        catalog_of(text)
    assert str(caught.value).startswith(f"catalog.toml, line {line}: {sentence}")


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("width = 1024", "width = ", "Invalid value (at line 10, column 9)"),
        ("[models.sdxl]", "[models.sdxl", "Expected"),
        ("[models.sdxl]", "[models.sdxl-demo]", "Cannot declare"),
    ],
)
def test_what_is_not_toml_says_where(right: str, wrong: str, told: str) -> None:
    with pytest.raises(CatalogError, match=r"catalog\.toml is not TOML: ") as caught:
        catalog_of(SHIPPED.replace(right, wrong, 1))
    assert told in str(caught.value)


def test_a_circle_of_conditions_names_its_way() -> None:
    own = 'params.sampler.depends_on = { karras = true }\nparams.sampler.default = "euler"\n'
    with pytest.raises(CatalogError, match="depends on itself: sampler → karras → sampler"):
        catalog_of(SHIPPED, own)


@pytest.mark.parametrize("missing", ["models", "job_types", "params"])
def test_a_catalog_without_a_part_names_it(missing: str) -> None:
    present = "\n".join(f"[{part}]" for part in ("models", "job_types", "params") if part != missing)
    with pytest.raises(CatalogError, match=f"catalog.toml, line 1: {missing}: is required"):
        catalog_of(present)


# A file of one's own.

OWN = """
[models.pixel]
label = "Pixel art"
pool = "sdxl"
tasks = ["t2i"]
width = 512
height = 512

[job_types.pixel_art]
label = "Pixel art"
model = "pixel"
task = "t2i"
kind = "image"
bucket = "pixel_art"
extension = "png"
quantities = [1, 4]
expected_s = [2, 3]
params = ["steps", "guidance"]
defaults = { steps = 8, guidance = 1.5 }

[job_types.sdxl_image_fast.defaults]
steps = 12
"""


def test_an_own_file_adds_entries_and_changes_keys() -> None:
    catalog = catalog_of(SHIPPED, OWN)
    values = catalog.complete_params(catalog.job_type("pixel_art"), {}).values
    assert values == {"width": 512, "height": 512, "steps": 8, "guidance": 1.5}
    changed = catalog.job_type("sdxl_image_fast")
    assert catalog.complete_params(changed, {}).values["steps"] == 12
    assert changed.label == "SDXL image, fast"


def test_a_mistake_in_an_own_file_names_that_file() -> None:
    with pytest.raises(CatalogError, match=r"own\.toml, line 12: job_types\.pixel_art\.task: is i2i, which"):
        catalog_of(SHIPPED, OWN.replace('task = "t2i"', 'task = "i2i"'))


def test_an_own_file_can_be_wrong_about_a_shipped_entry() -> None:
    with pytest.raises(CatalogError, match=r"own\.toml, line 22: job_types\.sdxl_image_fast\.defaults\.steps: "):
        catalog_of(SHIPPED, OWN.replace("steps = 12", "steps = 1000"))


def test_defaults_take_the_type_of_their_parameter() -> None:
    catalog = catalog_of(SHIPPED.replace("steps = 15", "steps = 15.0", 1))
    assert repr(catalog.complete_params(catalog.job_type("sdxl_image_fast"), {}).values["steps"]) == "15"


def test_the_page_about_it_is_a_catalog() -> None:
    page = Path(__file__).parents[3].joinpath("docs", "catalog.md").read_text("utf-8")
    blocks = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    files = [CatalogFile(f"block {number}", block) for number, block in enumerate(blocks)]
    catalog = read_catalog(CatalogFile("catalog.toml", SHIPPED), *files)
    pixel = catalog.job_type("pixel_art")
    values = catalog.complete_params(pixel, {"sampler": "dpm++", "karras": True}).values
    assert (values["guidance"], values["rho"]) == (5.0, 7.0)
    assert "hosted" in catalog.pools()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_parameter_cannot_have_the_name_of_a_field_of_a_submission(name: str) -> None:
    own = f'# mine\n[params.{name}]\ntype = "boolean"\ndefault = false\n'
    with pytest.raises(CatalogError) as caught:
        catalog_of(SHIPPED, own)
    told = f"own.toml, line 2: params.{name}: is the name of a field of every submission: call it otherwise"
    assert str(caught.value) == told


def test_a_condition_that_can_never_hold_is_refused() -> None:
    for wanted, told in (("82", "can never be 82: that becomes 81"), ("[]", "names no value of frames")):
        with pytest.raises(CatalogError, match=f"own.toml, line 1: params.shift.depends_on.frames: {told}"):
            catalog_of(SHIPPED, f"params.shift.depends_on = {{ frames = {wanted} }}\n")
