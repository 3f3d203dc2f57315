"""Describes a CUDA card to XLA, so that it compiles for one that is not there."""

from typing import NamedTuple

_TYPES = {
    "s8": 2,
    "s32": 4,
    "u8": 6,
    "u32": 8,
    "f16": 10,
    "f32": 11,
    "f64": 12,
    "bf16": 16,
    "f8e5m2": 19,
    "f8e4m3fn": 20,
}
"""XLA's numbers of element types."""


class Card(NamedTuple):
    """Facts of a card, from its maker's data sheet and from what its driver says of it."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    clock_ghz: float
    tensor_clock_ghz: float
    memory_bytes: int
    memory_bytes_per_second: int
    cache_bytes: int
    shared_bytes_per_multiprocessor: int
    shared_bytes_per_block: int
    links: int
    lanes: dict[str, tuple[int, int]]
    """For an element type: arithmetic units of a multiprocessor, and what each does a clock."""
    tensor_cores: int
    tensor_lanes: dict[str, int]
    """For an element type: multiplications of a tensor core a clock."""


H200 = Card(
    name="NVIDIA H200",
    capability=(9, 0),
    multiprocessors=132,
    clock_ghz=1.98,
    tensor_clock_ghz=1.83,
    memory_bytes=141 * 2**30,
    memory_bytes_per_second=4_800_000_000_000,
    cache_bytes=50 * 2**20,
    shared_bytes_per_multiprocessor=228 * 2**10,
    shared_bytes_per_block=227 * 2**10,
    links=18,
    lanes={"s32": (64, 1), "u32": (64, 1), "f16": (128, 2), "bf16": (128, 2), "f32": (128, 1), "f64": (64, 1)},
    tensor_cores=4,
    tensor_lanes={
        "s8": 1024, "u8": 1024, "f8e5m2": 1024, "f8e4m3fn": 1024, "f16": 512, "bf16": 512, "f32": 256, "f64": 32,
    },
)  # fmt: skip

# What all cards since 2017 have in common, and the releases of the libraries that programs are compiled for.
_COMMON = """
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 shared_memory_per_block: 49152
  registers_per_core_limit: 65536 registers_per_block_limit: 65536 device_address_bits: 64 ecc_enabled: true
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64 pcie_bandwidth: 34359738368
  device_vendor: "NVIDIA Corporation" driver_version: "13.0.0" runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0"
"""


def describe(card: Card) -> str:
    """A card as the text of XLA's ``GpuTargetConfigProto``."""
    major, minor = card.capability
    scalar = [_rate(name, card.clock_ghz, units, rate) for name, (units, rate) in card.lanes.items()]
    tensor = [_rate(name, card.tensor_clock_ghz, card.tensor_cores, rate) for name, rate in card.tensor_lanes.items()]
    return f"""
gpu_device_info {{ {_COMMON}
  name: "{card.name}" model_str: "{card.name}" platform_version: "Compute Capability {major}.{minor}"
  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: ACCELERATED_FEATURES }}
  core_count: {card.multiprocessors} fpus_per_core: {card.lanes["f32"][0]} clock_rate_ghz: {card.clock_ghz}
  device_memory_size: {card.memory_bytes} memory_bandwidth: {card.memory_bytes_per_second}
  l2_cache_size: {card.cache_bytes} shared_memory_per_core: {card.shared_bytes_per_multiprocessor}
  shared_memory_per_block_optin: {card.shared_bytes_per_block}
  device_interconnect_info {{ active_links: {card.links} }}
  scalar_unit_description {{ {" ".join(scalar)} }}
  matrix_unit_description {{ {" ".join(tensor)} }}
}}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 patch: 0 }} device_description_str: "{card.name}"
"""


def _rate(name: str, clock_ghz: float, units: int, rate: int) -> str:
    value = f"clock_rate_ghz: {clock_ghz} units_per_core: {units} ops_per_clock: {rate}"
    return f"rate_infos {{ key: {_TYPES[name]} value {{ {value} }} }}"
