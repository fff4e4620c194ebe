# make demo   everything from synthetic speech to a firmware folder, in demo/
# make test   all tests
# make check  lint, format and types
# make parity    the parity tests with 1,000 random inputs for each width and activation of BC-ResNet
# make firmware-test   the C code: on this machine, under QEMU, checked by clang-tidy and cppcheck; TFLM_ROOT=tree for all
# make firmware-accuracy BUILD=build DATA=data   what the C front ends, float and fixed point, cost in accuracy
# make firmware-figures   what a frame and an inference take on Cortex-M4F, M55 and M0+; BUILD=build, TFLM_ROOT=tree
# make bench-train  speed of training against a plain BC-ResNet, on tones or on DATA=folder
# make compare-recovery CHECKPOINT=run/checkpoint.pt DATA=data   what each way to quantize does to a trained model
# make compare-converters BUILD=build DATA=data   the build's float model through kws and through onnx2tf, side by side
# make compare-models CHECKPOINTS="a/checkpoint.pt b/checkpoint.pt" DATA=data   accuracy and costs, a row for each kind
# make tau-table   what each width of BC-ResNet costs; OPTIMIZE=speed (ram, flash, all) for other goals than balance
# make leaderboard ENGLISH=data ARABIC=data   every width and activation, trained (hours), quantized and judged
# make pretrained DATA=data   the models that come with kws, trained anew on Speech Commands (hours)
# make fine-tuning DATA=data INIT=checkpoint   what a few clips a word teach, from scratch and from a trained model
# make docs-check  the kws commands of the README and of docs/, run on small synthetic data
# Each sets up .venv first and re-uses it afterwards.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORDS := yes,no,up,down,left,right,on,off,stop,go

.PHONY: demo test parity check firmware-test firmware-figures firmware-accuracy bench-train compare-converters compare-models compare-recovery tau-table leaderboard pretrained fine-tuning docs-check clean

$(READY): pyproject.toml scripts/setup.sh
	sh scripts/setup.sh $(PYTHON) $(VENV)
	touch $@

demo: $(READY)
	test -d demo/data || $(BIN)/kws synth demo/data
	$(BIN)/kws train demo/data --out demo/run --words $(WORDS) --recipe short --epochs 60
	$(BIN)/kws quantize demo/run/checkpoint.pt --data demo/data --out demo/build
	$(BIN)/kws headers demo/build/model.int8.tflite --out demo/firmware
	$(BIN)/kws benchmark demo/build --data demo/data --out demo/report

test: $(READY)
	sh scripts/test_tools.sh
	$(BIN)/python -m pytest

parity: $(READY)
	KWS_PARITY_INPUTS=1000 $(BIN)/python -m pytest tests/test_parity.py

firmware-test: $(READY)
	sh scripts/test_tools.sh
	$(if $(TFLM_ROOT),TFLM_ROOT=$(abspath $(TFLM_ROOT))) $(BIN)/python -m pytest -rs tests/test_boards.py tests/test_firmware.py \
	  tests/test_firmware_quality.py tests/test_firmware_cmake.py tests/test_detector.py

firmware-figures: $(READY)
	@$(if $(TFLM_ROOT),TFLM_ROOT=$(abspath $(TFLM_ROOT))) $(BIN)/python -m scripts.firmware_figures "$(or $(BUILD),build)"

firmware-accuracy: $(READY)
	@$(BIN)/python -m scripts.front_end_accuracy "$(or $(BUILD),build)" --data "$(or $(DATA),data)"

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-train: $(READY)
	$(BIN)/python -m benchmarks.train_speed $(if $(DATA),--data $(DATA))

compare-recovery: $(READY)
	$(BIN)/python scripts/compare_recovery.py $(CHECKPOINT) --data $(DATA)

compare-converters: $(READY)
	@$(BIN)/python scripts/compare_converters.py "$(or $(BUILD),build)" "$(or $(DATA),data)" .venv-converters

compare-models: $(READY)
	@$(BIN)/python -m scripts.compare_models $(CHECKPOINTS) --data $(or $(DATA),data) $(if $(OPTIMIZE),--optimize $(OPTIMIZE))

tau-table: $(READY)
	@$(BIN)/python -m scripts.tau_table $(if $(OPTIMIZE),--optimize $(OPTIMIZE))

leaderboard: $(READY)
	@$(BIN)/python -m scripts.leaderboard leaderboard "$(or $(ENGLISH),speech-commands-subset):$(WORDS)" \
	  "$(or $(ARABIC),arabic-speech-commands)" $(if $(MODELS),--models $(MODELS)) $(if $(ACTIVATIONS),--activations $(ACTIVATIONS))

pretrained: $(READY)
	$(BIN)/python -m scripts.pretrain pretrained "$(or $(DATA),data)"

fine-tuning: $(READY)
	$(BIN)/python -m scripts.fine_tuning_curve fine-tuning "$(or $(DATA),data)" $(or $(INIT),speech-commands-bcresnet-1)

docs-check: $(READY)
	@$(BIN)/python -m scripts.docs_check

clean:
	rm -rf demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache
