// libFuzzer target: arbitrary blocks of samples into the front end and window, arbitrary parameters, times and
// posteriors into the detector. The input is a stream of commands; whatever it says must be defined and stay in bounds.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "detector.h"
#include "frontend.h"
#include "posteriors.h"
#include "window.h"

namespace {

class Input {
 public:
  Input(const uint8_t *data, size_t bytes) : data_(data), left_(bytes) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T Take() {
    T value = 0;
    TakeBytes(&value, sizeof(value));
    return value;
  }

  void TakeBytes(void *out, size_t bytes) {
    if (bytes == 0) {
      return;
    }
    std::memset(out, 0, bytes);
    const size_t taken = bytes < left_ ? bytes : left_;
    std::memcpy(out, data_, taken);
    data_ += taken;
    left_ -= taken;
  }

 private:
  const uint8_t *data_;
  size_t left_;
};

void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

class Firmware {
 public:
  explicit Firmware(Input *input) : input_(input) {
    kws_frontend_reset(&frontend_);
    kws_window_reset(&window_);
    kws_detector_reset(&detector_);
    params_ = kDetectorParams;
  }

  void Run() {
    while (!input_->empty()) {
      switch (input_->Take<uint8_t>() % 4) {
        case 0:
          Samples();
          break;
        case 1:
          Params();
          break;
        case 2:
          Result();
          break;
        default:
          Logits();
      }
    }
  }

 private:
  // A block of 0 to 10,239 samples, given or one value repeated, in memory of just this size.
  void Samples() {
    const uint16_t kind = input_->Take<uint16_t>();
    std::vector<int16_t> block(kind % 10240);
    if (kind & 0x8000) {
      const int16_t value = input_->Take<int16_t>();
      for (size_t i = 0; i < block.size(); ++i) {
        block[i] = static_cast<int16_t>(i % 2 && (kind & 0x4000) ? ~value : value);
      }
    } else {
      input_->TakeBytes(block.data(), block.size() * sizeof(int16_t));
    }
    int32_t done = 0;
    const int32_t count = static_cast<int32_t>(block.size());
    while (done < count) {
      const int32_t taken = kws_frontend_push(&frontend_, block.data() + done, count - done);
      KwsInteger frame[kMelBands];
      const int32_t popped = kws_frontend_pop(&frontend_, &scratch_, frame);
      Require(taken > 0 || popped);
      done += taken;
      if (popped) {
        kws_window_push(&window_, frame);
        std::vector<KwsInteger> model_input(kInputElements);
        kws_window_write(&window_, model_input.data());
      }
    }
  }

  void Params() { input_->TakeBytes(&params_, sizeof(params_)); }

  void Result() {
    uint16_t posteriors[kLabelCount];
    time_ms_ += input_->Take<uint8_t>() % 8 == 0 ? input_->Take<uint32_t>() : 100;
    input_->TakeBytes(posteriors, sizeof(posteriors));
    Push(posteriors);
  }

  void Logits() {
    KwsInteger logits[kLabelCount];
    uint16_t posteriors[kLabelCount];
    input_->TakeBytes(logits, sizeof(logits));
    kws_posteriors(logits, posteriors);
    uint32_t sum = 0;
    for (uint16_t posterior : posteriors) {
      sum += posterior;
    }
    Require(sum + kLabelCount >= kPosteriorOne && sum <= kPosteriorOne + kLabelCount);
    Push(posteriors);
  }

  void Push(const uint16_t *posteriors) {
    KwsEvent event = {-1, 0, 0};
    if (kws_detector_push(&params_, &detector_, time_ms_, posteriors, &event)) {
      Require(event.label >= 0 && event.label < kLabelCount && event.time_ms == time_ms_);
      Require(params_.thresholds[event.label] <= kPosteriorOne && event.score >= params_.thresholds[event.label]);
    }
    Require(detector_.count >= 1 && detector_.count <= kDetectorCapacity);
  }

  Input *input_;
  KwsFrontendState frontend_;
  KwsFrontendScratch scratch_;
  KwsWindow window_;
  KwsDetectorState detector_;
  KwsDetectorParams params_;
  uint32_t time_ms_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
  Input input(data, bytes);
  // Not on the stack: the sanitizer finds what lies beyond.
  std::vector<Firmware>(1, Firmware(&input)).front().Run();
  return 0;
}
