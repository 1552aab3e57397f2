import pytest
import torch

from sentiflow.models import cpu


@pytest.mark.parametrize("rows", [3, 900, 5000])
@pytest.mark.parametrize("has_onednn", [True, False])
@torch.inference_mode()
def test_products_are_pytorchs(rows, has_onednn, monkeypatch):
    if has_onednn:
        assert cpu._LINEAR is not None
    else:
        monkeypatch.setattr(cpu, "_LINEAR", None)
    torch.manual_seed(0)
    left = torch.randn(rows, 40)
    right = torch.randn(30, 40)
    other = torch.randn(rows, 30)
    bias = torch.randn(30)
    expected = left.double() @ right.double().T
    for actual, wanted in (
        (cpu.affine(left, right), expected),
        (cpu.affine(left, right, bias), expected + bias),
        (cpu.multiply_add(left, right, other), expected + other),
    ):
        torch.testing.assert_close(actual, wanted.float(), rtol=1e-4, atol=1e-3)


def test_tanh_is_exact_to_a_few_units_in_the_last_place_of_one():
    values = torch.cat([torch.linspace(-20, 20, 100_001), torch.tensor([-1e30, 0.0, 1e30])])
    expected = torch.tanh(values.double())
    with torch.inference_mode():
        assert (cpu.tanh(values).double() - expected).abs().max() < 2e-7
