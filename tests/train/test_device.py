from __future__ import annotations

import os

import pytest
import torch

from assay.train.device import distributed, peak_flops


def test_on_a_gpu_operations_must_be_deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """With warnings only, torch's GPU kernels for attention are not deterministic, and resumed weights would differ."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    precision = torch.get_float32_matmul_precision()
    try:
        with distributed("auto", threads=torch.get_num_threads()) as context:
            assert context.device == torch.device("cuda", 0)
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.set_float32_matmul_precision(precision)


@pytest.mark.parametrize(
    ("given", "used"), [(None, ":4096:8"), (":4096:2:16:8", ":4096:8"), (":16:8", ":16:8"), (":4096:8", ":4096:8")]
)
def test_cublas_gets_a_deterministic_workspace(given: str | None, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch refuses matrix products on a GPU with any other workspace while operations must be deterministic."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", given or "")
    if given is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    with distributed("cpu", threads=torch.get_num_threads()):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == used


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L4", 121),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA RTX 6000 Ada Generation", None),
    ],
)
def test_the_peak_of_a_gpu_follows_from_its_name(name: str, tera: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
    assert peak_flops(torch.device("cuda", 0)) == (None if tera is None else tera * 1e12)
