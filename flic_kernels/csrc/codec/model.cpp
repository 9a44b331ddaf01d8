#include "codec/model.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <utility>

#include "base/tasks.h"
#include "codec/json.h"
#include "codec/z_prior.h"
#include "cpu/kernels.h"
#include "cpu/product/row_kernels.h"

namespace flic::codec {
namespace {

constexpr int kHeads = 16;      // of T-CA
constexpr int kEscapeBits = 8;  // of the shortest escape, docs/rans.md

struct Field {
    const char* name;
    int32_t FlicModelInfo::* value;
    int standard, most;
};
// Defaults and bounds as in flic/config.py.
constexpr Field kFields[] = {
    {"latent", &FlicModelInfo::latent, 320, 2048}, {"hyper", &FlicModelInfo::hyper, 192, 2048},
    {"slices", &FlicModelInfo::slices, 5, 255},    {"ratio", &FlicModelInfo::ratio, 4, 16},
    {"depth", &FlicModelInfo::depth, 12, 64},
};

void require_model(bool condition, const char* what) {
    if (!condition) throw Error(FLIC_BAD_MODEL, what);
}

int32_t integer(const Json& value, int most) {
    const double* const number = value.number();
    require_model(number && *number >= 1 && *number <= most && *number == floor(*number),
                  "a field of the model's configuration is out of range");
    return static_cast<int32_t>(*number);
}

FlicModelInfo read_info(const ModelFile& file) {
    const std::string* const text = file.metadata("config");
    require_model(text, "not a FLIC model (`flic convert` makes one)");
    const Json config = Json::parse(*text);
    require_model(config.object(), "the model's configuration is no object");
    FlicModelInfo info = {{}, {96, 144, 256}, {8, 16, 32}, 0, 0, 0, 0, 0};
    for (const Field& field : kFields) info.*field.value = field.standard;
    for (const auto& [name, value] : *config.object()) {
        const bool widths = name == "widths";
        if (widths || name == "heads") {
            require_model(value.array() && value.array()->size() == 3,
                          "a configuration has three widths and three numbers of heads");
            for (int i = 0; i < 3; ++i) {
                (widths ? info.widths : info.heads)[i] =
                    integer((*value.array())[i], widths ? 2048 : 512);
            }
            continue;
        }
        const auto* const field =
            std::find_if(std::begin(kFields), std::end(kFields),
                         [&name = name](const Field& each) { return name == each.name; });
        require_model(field != std::end(kFields), "the model's configuration has unknown fields");
        info.*field->value = integer(value, field->most);
    }
    for (int i = 0; i < 3; ++i) {
        require_model(info.heads[i] % 4 == 0 && info.widths[i] % info.heads[i] == 0,
                      "heads must be a multiple of 4 that divides the width");
    }
    require_model(info.latent % info.slices == 0, "the latent channels do not split into slices");
    require_model(info.latent / info.slices * info.ratio % kHeads == 0,
                  "a slice's channels times the ratio must be a multiple of 16");
    return info;
}

// Of the exact engine, of whose networks' names these are the beginnings.
bool is_exact(const std::string& name) {
    return name.rfind("h_mean_s.", 0) == 0 || name.rfind("h_scale_s.", 0) == 0 ||
           name.rfind("tca.", 0) == 0;
}

void require_finite(const std::string& name, const Tensor& tensor) {
    if (exact::all_finite(tensor.data, tensor.count())) return;
    throw Error(FLIC_BAD_MODEL, "these weights cannot code: " + name + " holds NaN or infinity");
}

exact::Config exact_config(const FlicModelInfo& info) {
    const int32_t fields[exact::Config::kFields] = {info.hyper,  info.widths[2], info.heads[2],
                                                    info.latent, info.slices,    info.ratio,
                                                    info.depth};
    return exact::make_config(fields, exact::Config::kFields);
}

// Bits that the likeliest symbol of a table costs; its escape's code counts.
double least_bits(const rans::TableRows& rows, size_t table) {
    double least = 1e9;
    for (int64_t k = rows.first[table]; k < rows.first[table + 1]; ++k) {
        const bool escape = k + 1 == rows.first[table + 1];
        const double cost = log2(32768.0 / rows.frequencies[k]) + (escape ? kEscapeBits : 0);
        least = std::min(least, cost);
    }
    return least;
}

float widened(float value) { return value; }
float widened(Bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value) << 16;
    float wide;
    memcpy(&wide, &bits, sizeof wide);
    return wide;
}

// The part of x inside the margins, in planes.
template <class T>
Floats to_planes(const Pixels<T>& x, const Margins& cut) {
    const int height = x.height - cut.top - cut.bottom, width = x.width - cut.left - cut.right;
    Floats planes(static_cast<size_t>(x.channels) * height * width, Floats::Fill::none);
    const size_t plane = static_cast<size_t>(height) * width;
    for (int row = 0; row < height; ++row) {
        const T* from =
            x.data + (static_cast<size_t>(row + cut.top) * x.width + cut.left) * x.channels;
        float* const to = planes.get() + static_cast<size_t>(row) * width;
        for (int column = 0; column < width; ++column) {
            for (int c = 0; c < x.channels; ++c) to[c * plane + column] = widened(*from++);
        }
    }
    return planes;
}

// Planes [channels][height][width] with their border repeated outwards, channels-last.
template <class T>
void from_planes(const float* planes, int height, int width, const Margins& around,
                 const Pixels<T>& out) {
    std::vector<float> line(out.channels);
    const size_t plane = static_cast<size_t>(height) * width;
    for (int y = 0; y < out.height; ++y) {
        const int source_y = std::clamp(y - around.top, 0, height - 1);
        for (int x = 0; x < out.width; ++x) {
            const int source_x = std::clamp(x - around.left, 0, width - 1);
            const float* const from = planes + static_cast<size_t>(source_y) * width + source_x;
            for (int c = 0; c < out.channels; ++c) line[c] = from[c * plane];
            T* const to = out.data + (static_cast<size_t>(y) * out.width + x) * out.channels;
            if constexpr (std::is_same_v<T, float>) {
                memcpy(to, line.data(), out.channels * sizeof(float));
            } else {
                cpu::kernels().rows.to_bfloat16(line.data(), to, out.channels);
            }
        }
    }
}

template <class T>
Floats analyzed(const Network<T>& network, const float* x, const Tile& tile, int threads) {
    const AnalysisTile margins(tile);
    const Box input = tile.input();
    Buffers<T> buffers(network.most_of_analysis(input.height(), input.width(), margins));
    return to_planes(network.analyze(x, input.height(), input.width(), margins, buffers, threads),
                     margins.cut);
}

template <class T>
Floats synthesized(const Network<T>& network, int latent, const float* y_hat, const Tile& tile,
                   int threads) {
    const int height = tile.latents().height() / 16, width = tile.latents().width() / 16;
    Buffers<T> buffers(network.most_of_synthesis(height, width));
    const Pixels<T> given = buffers.image(0, height, width, latent);
    from_planes(y_hat, height, width, {}, given);
    const Pixels<T> x = network.synthesize(given, SynthesisTile(tile), buffers, threads);
    Floats x_hat(x.size(), Floats::Fill::none);
    for (size_t i = 0; i < x.size(); ++i) x_hat[i] = widened(x.data[i]);
    return x_hat;
}

}  // namespace

Model::Model(std::unique_ptr<ModelFile> file, int threads)
    : file_(std::move(file)),
      info_(read_info(*file_)),
      weights_(file_->tensors()),
      wide_(info_, weights_) {
    Tasks tasks = {[this] {
                       const auto fingerprint = file_->fingerprint();
                       std::copy(fingerprint.begin(), fingerprint.end(), info_.fingerprint);
                   },
                   [this] { read_prior(); }, [] { gaussian_coder(); }};
    for (const auto& [name, tensor] : file_->tensors()) {
        if (is_exact(name)) {
            tasks.push_back([&name = name, &tensor = tensor] { require_finite(name, tensor); });
        }
    }
    pack(exact::kernels_for(-1), std::move(tasks), threads);
}

void Model::read_prior() {
    const std::string prior = "entropy_bottleneck.";
    const int widths[kPriorLayers + 1] = {1, 3, 3, 3, 3, 1};
    const float* matrices[kPriorLayers];
    const float* biases[kPriorLayers];
    const float* factors[kPriorLayers - 1];
    const size_t channels = info_.hyper;
    for (int i = 0; i < kPriorLayers; ++i) {
        const std::string number = std::to_string(i);
        const size_t in = widths[i], out = widths[i + 1];
        matrices[i] = weights_.find(prior + "matrices." + number, channels * out * in);
        biases[i] = weights_.find(prior + "biases." + number, channels * out);
        if (i + 1 < kPriorLayers) {
            factors[i] = weights_.find(prior + "factors." + number, channels * out);
        }
    }
    const float* const quantiles = weights_.find(prior + "quantiles", channels * 3);
    for (size_t c = 0; c < channels; ++c) medians_.push_back(quantiles[3 * c + 1]);
    const rans::TableRows rows = codec::z_tables(info_.hyper, quantiles, matrices, biases, factors);
    for (size_t c = 0; c < channels; ++c) least_z_bits_ += least_bits(rows, c);
    z_tables_ = rans::make_tables(rows);
}

void Model::pack(const exact::Kernels& kernels, Tasks tasks, int threads) const {
    const exact::Config config = exact_config(info_);
    exact::WeightTable table(exact::WeightTable::Use::only_found);
    for (const auto& [name, tensor] : file_->tensors()) {
        if (is_exact(name)) {
            table.add(name, tensor.data, static_cast<int64_t>(tensor.count()));
        }
    }
    auto weights = std::make_shared<exact::PackedWeights>();
    for (auto& task : exact::load(table, config, kernels.panel_vectors, *weights)) {
        tasks.push_back(std::move(task));
    }
    run(tasks, threads);
    packed_ = std::move(weights);
    packed_for_ = &kernels;
}

void Model::check_drawing() const {
    if (draws_) return;
    for (const auto& [name, tensor] : file_->tensors()) {
        if (name.rfind("g_s.", 0) == 0) require_finite(name, tensor);
    }
    draws_ = true;
}

const Network<Bfloat16>& Model::narrow() const {
    const Lock lock(mutex_);
    if (!narrow_) narrow_ = std::make_unique<Network<Bfloat16>>(info_, weights_);
    return *narrow_;
}

Unrounded Model::analyze(const float* x, const Tile& tile, const Work& work) const {
    const Box input = tile.input();
    work.need(transform_bytes(input), input.height(), input.width());
    const int threads = work.threads();
    Unrounded out;
    out.y =
        work.bfloat16() ? analyzed(narrow(), x, tile, threads) : analyzed(wide_, x, tile, threads);
    work.go_on();
    const Margins around = tile.margins().at(16);
    const int height = tile.core.height() / 16, width = tile.core.width() / 16;
    const int rows = height + around.top + around.bottom;
    const int columns = width + around.left + around.right;
    Buffers<float> buffers(wide_.most_of_hyper_analysis(rows, columns));
    const Pixels<float> given = buffers.image(0, rows, columns, info_.latent);
    from_planes(out.y.get(), height, width, around, given);
    out.z = to_planes(wide_.hyper_analyze(given, buffers, threads), tile.margins().at(64));
    work.go_on();
    const size_t plane = out.z.size() / info_.hyper;
    for (size_t i = 0; i < out.z.size(); ++i) out.z[i] -= medians_[i / plane];
    return out;
}

Floats Model::synthesize(const float* y_hat, const Tile& tile, const Work& work) const {
    const Box latents = tile.latents();
    work.need(transform_bytes(latents), latents.height(), latents.width());
    Floats x_hat = work.bfloat16()
                       ? synthesized(narrow(), info_.latent, y_hat, tile, work.threads())
                       : synthesized(wide_, info_.latent, y_hat, tile, work.threads());
    work.go_on();
    return x_hat;
}

// Of three images at half the resolution, the least that a block there works on.
int64_t Model::transform_bytes(const Box& box) const {
    return int64_t{4} * 3 * info_.widths[0] * (box.height() / 2) * (box.width() / 2);
}

Model::Lease::Lease(const Model& model, int threads) : model_(model) {
    const exact::Kernels& kernels = exact::kernels_for(-1);
    const Lock lock(model.mutex_);
    auto& idle = model.idle_;
    for (size_t i = 0; i < idle.size(); ++i) {
        if (idle[i]->threads == threads && &idle[i]->kernels == &kernels) {
            engine_ = std::move(idle[i]);
            idle.erase(idle.begin() + static_cast<ptrdiff_t>(i));
            return;
        }
    }
    if (model.packed_for_ != &kernels) model.pack(kernels, {}, threads);
    engine_ =
        std::make_unique<exact::Engine>(exact_config(model.info_), kernels, model.packed_, threads);
}

Model::Lease::~Lease() {
    const Lock lock(model_.mutex_);
    auto& idle = model_.idle_;
    idle.push_back(std::move(engine_));
    const exact::Engine& latest = *idle.back();  // the others are kept for as many threads only
    idle.erase(std::remove_if(idle.begin(), idle.end(),
                              [&](const auto& each) { return each->threads != latest.threads; }),
               idle.end());
}

const GaussianCoder& gaussian_coder() {
    static const GaussianCoder coder = [] {
        GaussianCoder made = {rans::gaussian_tables(), nullptr, 1e9};
        const size_t count = made.grid.rows.minimum.size();
        for (size_t t = 0; t < count; ++t) {
            made.least_bits = std::min(made.least_bits, least_bits(made.grid.rows, t));
        }
        made.tables = rans::make_tables(made.grid.rows);
        made.grid.cells.push_back(0);
        return made;
    }();
    return coder;
}

}  // namespace flic::codec
