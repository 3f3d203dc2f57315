"""Bundles of a schedule: of loops over tiles each round, of kernels that are equal one for all."""

import pytest

from benchmarks.static.bundles import count_bundles, read_schedules, schedule_of, tiles
from benchmarks.static.compiled_text import parse
from tests.benchmarks.static.texts import NESTED, flat

SCHEDULE = """\
= control target key start
LB: loop body
= control target key end

     0   :  { %s1 = inlined_call_operand.vmem [shape: bf16[8,128], index: 0] } /* entry bundle: %gates = fusion() */
   0x1   :  { %v1 = vld [vmem:[%s1] sm:$0xff]  ;;  %p6 = scmp.gt.s32.totalorder %s1, 0 }
   0x2 LB: > { %s2 = sadd.s32 4294967295, %s1 }
   0x3   : > { %v2 = vmatmul.bf16 %v1 }
   0x4   : >> { %v3 = vadd %v2, %v1 }
   0xa LE: > { %v3 = vadd %v2, %v1 }
  0x1b PF:  { vst [vmem:[%s1]] %v3 }
"""
STEPS = 18


def test_bundles_of_a_kernel():
    schedule = schedule_of(SCHEDULE)
    assert schedule == (3, 4)
    assert schedule.issued(5) == 23


def test_rounds_over_tiles():
    module = parse(NESTED)
    assert tiles(module.computations["inner_body"].by_name["gates"]) == 2
    assert tiles(module.computations["outer_body"].by_name["part"]) == 1


def write(folder, *names):
    for name in names:
        (folder / f"1795994222671112863-{name}-67-final_bundles.txt").write_text(SCHEDULE, encoding="utf-8")
        (folder / f"1795994222671112863-{name}-66-schedule-analysis_final_bundles.txt").write_text(
            "no", encoding="utf-8"
        )
        (folder / f"1795994222671112863-{name}-12-post-CP.txt").write_text(SCHEDULE, encoding="utf-8")


def test_schedules_are_found_by_name(tmp_path):
    write(tmp_path, "gates", "multiply_reduce_fusion.18")
    assert set(read_schedules(tmp_path)) == {"gates", "multiply_reduce_fusion.18"}


def test_bundles_a_step(tmp_path):
    """The product runs 18 times over two tiles; the two fusions of a chunk have no schedule here."""
    write(tmp_path, "gates")
    found = count_bundles(parse(NESTED), read_schedules(tmp_path), STEPS)
    assert found == {"bundles": 3 + 2 * 4, "kernels_without_schedule": pytest.approx(6 * 2 / STEPS)}


TWO = """\
%one (p: f32[2,256], q: f32[2,256]) -> f32[2,256] {
  %p = f32[2,256]{1,0} parameter(0)
  %q = f32[2,256]{1,0} parameter(1)
  ROOT %r = f32[2,256]{1,0} subtract(%p, %q), metadata={op_name="a"}
}

%other (p.7: f32[2,256], q.7: f32[2,256]) -> f32[2,256] {
  %p.7 = f32[2,256]{1,0} parameter(0)
  %q.7 = f32[2,256]{1,0} parameter(1)
  ROOT %r.7 = f32[2,256]{1,0} subtract(%p.7, %q.7), metadata={op_name="b"}
}

%body (s: (s32[], f32[2,256])) -> (s32[], f32[2,256]) {
  %s = (s32[], f32[2,256]{1,0}) parameter(0)
  %k = s32[] get-tuple-element(%s), index=0
  %h = f32[2,256]{1,0} get-tuple-element(%s), index=1
  %first = f32[2,256]{1,0} fusion(%h, %h), kind=kLoop, calls=%one
  %second = f32[2,256]{1,0} fusion(%first, %h), kind=kLoop, calls=%other
  ROOT %t = (s32[], f32[2,256]{1,0}) tuple(%k, %second)
}

%condition (s: (s32[], f32[2,256])) -> pred[] {
  %s = (s32[], f32[2,256]{1,0}) parameter(0)
  %k = s32[] get-tuple-element(%s), index=0
  %bound = s32[] constant(18)
  ROOT %less = pred[] compare(%k, %bound), direction=LT
}
"""
LOOP = """\
  %zero = s32[] constant(0)
  %state = (s32[], f32[2,256]{1,0}) tuple(%zero, %y)
  ROOT %loop = (s32[], f32[2,256]{1,0}) while(%state), condition=%condition, body=%body"""


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("", "", 0),
        ("subtract(%p.7, %q.7)", "subtract(%q.7, %p.7)", 1),
        ("subtract(%p.7, %q.7)", "add(%p.7, %q.7)", 1),
        ("%r.7 = f32[2,256]{1,0}", "%r.7 = f32[2,256]{1,0:S(1)}", 1),
    ],
)
def test_an_equal_kernel_lends_its_schedule(tmp_path, old, new, missing):
    write(tmp_path, "first")
    module = parse(flat(LOOP, TWO.replace(old, new) if old else TWO))
    found = count_bundles(module, read_schedules(tmp_path), STEPS)
    assert found == {"bundles": (2 - missing) * 7, "kernels_without_schedule": missing}
