"""The exact engine: wrong use, NaN and infinity are errors that say what is wrong."""

import pytest
import torch
from exact_models import latents, model

import flic.coding.model_engine
from flic_kernels import exact
from flic_kernels.exact import ExactEngine


class TestErrors:
    def setup_method(self):
        self.net = model("narrow")
        self.state = self.net.state_dict()
        self.z, self.y = latents(self.net.config, 8, 8)

    def engine(self):
        return ExactEngine(self.state, threads=1)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_non_finite_input(self, value):
        self.z[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match="NaN or infinity"):
            self.engine().hyper(self.z)
        means = torch.zeros(self.net.config.latent, 8, 8)
        with pytest.raises(ValueError, match="NaN or infinity"):
            self.engine().begin(means, means + value)
        picture = self.engine().begin(means, means)
        picture.next_slice()
        with pytest.raises(ValueError, match="finite"):
            picture.next_slice(self.y[0, :16] * value)

    def test_non_finite_weight(self):
        self.state["tca.TCA.lift.bias"][3] = float("nan")
        with pytest.raises(ValueError, match="tca.TCA.lift.bias"):
            self.engine()

    @pytest.mark.parametrize("weight", ["h_mean_s.1.conv1_1.weight", "h_scale_s.0.conv.bias"])
    def test_overflow_in_the_hyper_synthesis(self, weight):
        self.state[weight].fill_(3e38)
        with pytest.raises(ValueError, match="gave NaN or infinity"):
            self.engine().hyper(self.z)

    @pytest.mark.parametrize(
        "weight",
        [
            "tca.TCA.layers.0.v1.weight",
            "tca.TCA.layers.0.k1.weight",
            "tca.TCA.layers.0.mlp.fc1.weight",
            "tca.entropy_parameters_net.4.weight",
        ],
    )
    def test_overflow_in_t_ca(self, weight):
        self.state[weight].fill_(3e38)
        engine = self.engine()
        means, scales = engine.hyper(self.z)
        with pytest.raises(ValueError, match="NaN or infinit"):
            list(engine.slices_of(means[0], scales[0], self.y[0]))

    def test_missing_weight(self):
        del self.state["tca.TCA.layers.0.k1.bias"]
        with pytest.raises(ValueError, match="tca.TCA.layers.0.k1.bias is missing"):
            self.engine()
        del self.state["h_mean_s.0.conv.weight"]
        with pytest.raises(KeyError, match="h_mean_s.0.conv.weight"):
            self.engine()

    def test_misshapen_weight(self):
        self.state["h_scale_s.0.conv.weight"] = torch.zeros(3, 3)
        with pytest.raises(ValueError, match="h_scale_s.0.conv.weight has 9 values, not"):
            self.engine()

    def test_wrong_dtype(self):
        self.state["tca.TCA.lift.bias"] = self.state["tca.TCA.lift.bias"].double()
        with pytest.raises(ValueError, match="float32"):
            self.engine()

    def test_unknown_instruction_set_and_threads(self):
        with pytest.raises(ValueError, match="unknown instruction set"):
            ExactEngine(self.state, isa="sse9")
        for threads in (0, 257):
            with pytest.raises(ValueError, match="threads"):
                ExactEngine(self.state, threads=threads)

    def test_more_processors_than_threads(self, monkeypatch, small_model):
        monkeypatch.setattr(exact, "_available_processors", lambda: 500)
        assert ExactEngine(self.state).threads == 256
        monkeypatch.setattr(torch, "get_num_threads", lambda: 257)
        assert flic.coding.model_engine.engine_of(small_model).networks.threads == 256

    @pytest.mark.parametrize("size", [(3, 2), (2, 5)])
    def test_odd_sides(self, size):
        with pytest.raises(ValueError, match="even"):
            self.engine().hyper(torch.zeros(1, self.net.config.hyper, *size))

    def test_shapes(self):
        engine = self.engine()
        with pytest.raises(ValueError, match="z_hat must be"):
            engine.hyper(self.z[0])
        features = torch.zeros(self.net.config.latent, 8, 12)
        with pytest.raises(ValueError, match="multiples of 8"):
            engine.begin(features, features)
        with pytest.raises(ValueError, match="must be"):
            engine.begin(features, features[1:])

    def test_slices_out_of_order(self):
        engine = self.engine()
        means, scales = engine.hyper(self.z)
        picture = engine.begin(means[0], scales[0])
        with pytest.raises(ValueError, match="first slice"):
            picture.next_slice(self.y[0, :16])
        picture.next_slice()
        with pytest.raises(ValueError, match="every other slice"):
            picture.next_slice()
        with pytest.raises(ValueError, match="must be"):
            picture.next_slice(self.y[0])
        picture.next_slice(self.y[0, :16])
        with pytest.raises(ValueError, match="order"):
            picture.next_slice(self.y[0, 16:])
