"""Figures over the text of compiled programs: each counted by hand, and each seen to move when the text does."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.static.compiled_text import arrays_of, parse
from benchmarks.static.counts import count
from benchmarks.static.loops import executions
from benchmarks.static.products import multiplications
from benchmarks.static.traffic import traffic
from tests.benchmarks.static.texts import BUFFER, NESTED, SLICE, flat

KERNEL = 128 * 512 * 2
STEPS = 18


def figures(text=NESTED, platform="tpu"):
    return count(parse(text), STEPS, platform)


# ---- text


def test_types_with_layouts_and_tuples_are_read():
    found = arrays_of("(s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, f8e4m3fn[<=3]{0}, u32[]{:S(2)})")
    assert [(a.dtype, a.shape, a.bytes, a.space) for a in found] == [
        ("s32", (), 4, 0),
        ("bf16", (8, 128), 2048, 1),
        ("f8e4m3fn", (3,), 3, 0),
        ("u32", (), 4, 2),
    ]


def test_instructions_are_read():
    module = parse(NESTED)
    assert module.entry.name == "main"
    body = module.computations["outer_body"]
    assert body.root.op == "tuple"
    loop = body.by_name["steps"]
    assert (loop.op, loop.operands, loop.called) == ("while", ("state",), ["inner_condition", "inner_body"])
    assert len(loop.arrays) == 3
    assert module.computations["write"].parameters[2].name == "p.2"


@pytest.mark.parametrize("text", ["", "HloModule m\n", "%f (a: f32[]) -> f32[] {\n  ROOT %a = f32[] parameter(0)\n}\n"])
def test_a_text_without_an_entry_is_refused(text):
    with pytest.raises(ValueError, match="no entry computation"):
        parse(text)


# ---- loops


def test_rounds_of_nested_loops_multiply():
    times = {run.instruction.name: (run.times, run.part) for run in executions(parse(NESTED))}
    assert times["gates"] == (18, "backward"), "6 rounds of 5 - 2"
    assert times["part"] == (6, "backward")
    assert times["fetch"] == (1, "outside")


def test_the_outermost_loop_says_which_pass_it_is():
    text = NESTED.replace('op_name="jit(f)/transpose(jvp())/while"', 'op_name="jit(f)/jvp()/while"')
    assert {run.part for run in executions(parse(text))} == {"forward", "outside"}


def test_a_noted_number_of_rounds_comes_first():
    noted = 'body=%outer_body, backend_config={"known_trip_count":{"n":"40"},"x":[]}'
    times = {r.instruction.name: r.times for r in executions(parse(NESTED.replace("body=%outer_body", noted)))}
    assert times["gates"] == 40 * 3


def test_a_bound_that_the_loop_carries_is_found():
    text = NESTED.replace(
        "%bound = s32[]{:T(128)} constant(6)", "%bound = s32[]{:T(128)} get-tuple-element(%s), index=0"
    )
    assert {r.instruction.name: r.times for r in executions(parse(text))}["part"] == 0, "it starts where it ends"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("direction=LT", "direction=NE"),
        ("%bound = s32[]{:T(128)} constant(6)", "%bound = s32[] get-tuple-element(%s), index=2"),
    ],
)
def test_a_loop_whose_rounds_nobody_knows_is_refused(old, new):
    with pytest.raises(ValueError, match=r"the number of rounds of .* is not known"):
        figures(NESTED.replace(old, new))


def test_calls_are_entered_and_of_branches_the_longer_counts():
    others = """\
%short (a: f32[2,256]) -> f32[2,256] {
  ROOT %a = f32[2,256]{1,0} parameter(0)
}

%long (a: f32[2,256]) -> f32[2,256] {
  %a = f32[2,256]{1,0} parameter(0)
  ROOT %twice = f32[2,256]{1,0} add(%a, %a)
}
"""
    lines = """\
  %called = f32[2,256]{1,0} call(%y), to_apply=%long
  ROOT %either = f32[2,256]{1,0} conditional(%i, %called, %called), branch_computations={%short, %long}"""
    assert [r.instruction.name for r in executions(parse(flat(lines, others)))][3:] == ["a", "twice", "a", "twice"]


# ---- bytes


def test_bytes_of_slow_memory():
    """Each round reads a chunk and writes one; the kernel is fetched once, the sum goes over everything."""
    assert figures()["slow_bytes"] == {
        "all": 6 * 2 * SLICE + KERNEL + BUFFER,
        "forward": 0,
        "backward": 6 * 2 * SLICE,
        "outside": KERNEL + BUFFER,
    }


def test_what_leaves_fast_memory_is_counted():
    text = NESTED.replace("%gates = f32[8,512]{1,0:T(8,128)S(1)}", "%gates = f32[8,512]{1,0:T(8,128)}")
    assert figures(text)["slow_bytes"]["backward"] == 6 * 2 * SLICE + 18 * 8 * 512 * 4


def test_on_cuda_all_memory_is_slow():
    per_product = 8 * 128 * 2 + KERNEL + 8 * 512 * 4
    chunk = SLICE + 4 + SLICE  # reads a chunk and a counter, writes the chunk
    stored = SLICE + 4 + SLICE + 8 * 4
    counters = 6 * (3 * 4 + 8) + 18 * 12
    assert figures(platform="cuda")["slow_bytes"]["backward"] == 18 * per_product + 6 * (chunk + stored) + counters


FUSED = """\
%inside (p: f32[4,256], q: f32[2,256], i: s32[]) -> f32[4,256] {
  %p = f32[4,256]{1,0} parameter(0)
  %q = f32[2,256]{1,0} parameter(1)
  %i = s32[]{:S(6)} parameter(2)
  BODY
}
"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("ROOT %r = f32[4,256]{1,0} dynamic-update-slice(%p, %q, %i, %i)", 2 * 2048),
        # The array that is written into is made on the spot, so all of it is written.
        (
            "%n = f32[4,256]{1,0} negate(%p)\n  ROOT %r = f32[4,256]{1,0} dynamic-update-slice(%n, %q, %i, %i)",
            4096 + 2048 + 4096,
        ),
        # Two slices into one array.
        (
            "%n = f32[4,256]{1,0} dynamic-update-slice(%p, %q, %i, %i)\n"
            "  ROOT %r = f32[4,256]{1,0} dynamic-update-slice(%n, %q, %i, %i)",
            2048 + 2 * 2048,
        ),
        # Of what is converted only the slice is read.
        (
            "%b = bf16[4,256]{1,0} convert(%p)\n  ROOT %r = bf16[1,256]{1,0} slice(%b), slice={[0:1], [0:256]}",
            1024 + 512,
        ),
        ("ROOT %r = bf16[4,256]{1,0} convert(%p)", 4096 + 2048),
        # Of a slice only a slice is read.
        (
            "%s = f32[2,256]{1,0} slice(%p), slice={[0:2], [0:256]}\n"
            "  ROOT %r = f32[1,128]{1,0} slice(%s), slice={[0:1], [0:128]}",
            512 + 512,
        ),
        # Of a slice the half and the whole are read.
        (
            "%s = f32[2,256]{1,0} slice(%p), slice={[0:2], [0:256]}\n"
            "  %t = f32[1,256]{1,0} slice(%s), slice={[0:1], [0:256]}\n  ROOT %r = f32[2,256]{1,0} add(%s, %t)",
            2048 + 2048,
        ),
        # Read as a slice and whole.
        (
            "%s = f32[1,256]{1,0} slice(%p), slice={[0:1], [0:256]}\n  ROOT %r = f32[4,256]{1,0} add(%p, %q)",
            4096 + 2048 + 4096,
        ),
    ],
)
def test_slices_inside_of_fusions(body, expected):
    made = body.rpartition("%r = ")[2].partition(" ")[0]
    lines = f"  ROOT %r = {made} fusion(%x, %y, %i), kind=kLoop, calls=%inside"
    module = parse(flat(lines, FUSED.replace("BODY", body)))
    moved = traffic(module, module.entry, module.entry.root, lambda array: array.shape != ())
    assert moved == expected


def test_a_fusion_that_runs_beside_others_is_one():
    lines = """\
  %start = ((f32[4,256]{1,0}, f32[2,256]{1,0}, s32[]), f32[4,256]{1,0}) fusion-start(%x, %y, %i), calls=%inside
  ROOT %r = f32[4,256]{1,0} fusion-done(%start)"""
    body = "ROOT %r = f32[4,256]{1,0} dynamic-update-slice(%p, %q, %i, %i)"
    found = count(parse(flat(lines, FUSED.replace("BODY", body))), 1, "cuda")
    assert (found["slow_bytes"]["outside"], found["kernels"]["outside"]) == (2 * 2048 + 4, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("f32[1,256]{1,0} dynamic-slice(%x, %i, %i), dynamic_slice_sizes={1,256}", 2 * 1024),
        ("f32[4,256]{1,0} dynamic-update-slice(%x, %y, %i, %i)", 2 * 2048),
        ("f32[4,256]{1,0} add(%x, %x)", 2 * 4096),
        ("f32[4,256]{1,0} bitcast(%x)", 0),
        ("f32[4,256]{1,0:S(1)} copy(%x)", 4096),
        ('(f32[4,256]{1,0}, s8[4000]{0}) custom-call(%x, %y), custom_call_target="product"', 4096 + 2048 + 4096),
        ('f32[4,256]{1,0} custom-call(), custom_call_target="AllocateBuffer"', 0),
        ("((f32[4,256]{1,0}), f32[1,256]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:1], [0:256]}", 1024),
        ("(f32[4,256]{1,0}, f32[4,256]{1,0}, u32[]{:S(2)}) copy-start(%x)", 2 * 4096),
        ("f32[4,256]{1,0} all-reduce-done(%x)", 0),
    ],
)
def test_bytes_of_single_instructions(line, expected):
    module = parse(flat(f"  ROOT %r = {line}"))
    slow = traffic(module, module.entry, module.entry.root, lambda array: array.shape != () and array.space == 0)
    assert slow == expected


# ---- kernels, collectives, products


def test_kernels_a_step():
    """On a TPU the two fusions of a chunk and the product; on CUDA the counters and their copy, too."""
    assert figures()["kernels"] == {"forward": 0, "backward": round((6 * 2 + 18) / STEPS, 3), "outside": 1}
    on_cuda = (6 * 4 + 18 * 2) / STEPS
    assert figures(platform="cuda")["kernels"] == {"forward": 0, "backward": round(on_cuda, 3), "outside": 2}


def test_collectives_are_counted_where_they_are():
    assert figures()["collectives"] == {"forward": {}, "backward": {}, "outside": {"all-reduce": 1}}
    product = "ROOT %c = f32[8,512]{1,0:T(8,128)S(1)} convolution"
    gather = "%g = f32[8,512]{1,0:T(8,128)S(1)} all-gather-start(%p.0), dimensions={1}"
    planted = NESTED.replace(product, f"{gather}\n  {product}")
    assert figures(planted)["collectives"]["backward"] == {"all-gather": 1.0}, "one in each product, inside of a fusion"


def test_products_are_counted_in_loops():
    assert figures()["multiplications"] == 18 * 8 * 128 * 512 / STEPS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("f32[2,4]{1,0} dot(%y, %x), lhs_contracting_dims={1}, rhs_contracting_dims={1}", 2 * 4 * 256),
        ("f32[2,4]{1,0} convolution(%y, %x), dim_labels=bf_oi->bf", 2 * 4 * 256),
        # A sum over positions: the batch axis is the window.
        ("f32[256,256,1]{1,0,2} convolution(%v, %w), window={size=4}, dim_labels=0fb_0io->bf0", 4 * 256 * 256 * 1),
        # Every output meets one input, though the window is as long as the padded inputs.
        (
            "f32[4,1,256]{2,1,0} convolution(%v, %w), window={size=4 pad=3_3 rhs_reversal=1}, dim_labels=0bf_0io->0bf",
            10 * 1 * 256 * 1,
        ),
    ],
)
def test_products_of_single_instructions(line, expected):
    views = """\
  %v = f32[4,1,256]{2,1,0} bitcast(%x)
  %w = f32[4,1,256]{2,1,0} bitcast(%x)
"""
    text = flat(f"{views}  ROOT %r = {line}")
    module = parse(text)
    assert multiplications(module, module.entry, module.entry.root) == expected


def test_a_program_of_the_compiler_at_hand():
    """Its text has layouts, calls and notes of its own: a loop of seven rounds with one product."""

    def f(x, w):
        return jax.lax.scan(lambda h, row: (jnp.tanh(h @ w + row),) * 2, x[0], x)[1]

    text = jax.jit(f).lower(jnp.ones((7, 4, 8)), jnp.ones((8, 8))).compile().as_text()
    found = count(parse(text), 7, "cuda")
    assert found["multiplications"] == 4 * 8 * 8
    assert found["kernels"]["forward"] >= 1
    assert found["slow_bytes"]["forward"] >= 7 * (4 * 8 + 8 * 8 + 4 * 8) * 4
