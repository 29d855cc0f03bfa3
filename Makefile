# Two commands matter: `make run` and `make test`. The others are what they are made of.
.PHONY: run test test-real-intent test-engines bench bench-classify bench-extproc bench-intent bench-picker bench-quality models

run: ## build, start Waypost, say what it found
	cargo build --release --locked -p waypost
	@./target/release/waypost serve $(if $(CONFIG),--config $(CONFIG)) $(if $(LISTEN),--listen $(LISTEN))

test: ## set up and pass every test
	./scripts/test.sh

test-real-intent: ## ask a real model server for intents; installs PyTorch
	./scripts/real-intent-server.sh

test-engines: ## beside the real Dynamo and vLLM; installs 7 GB of Python
	./scripts/test-engines.sh

bench: ## measure against peers, in one interleaved run
	cargo build --profile dist --locked -p waypost
	./bench/run.sh

bench-classify: ## measure the classifiers against encoders run the usual ways
	./bench/classify.sh

bench-extproc: ## measure the Envoy door beside no processor, the floor and one in Python
	./bench/extproc.sh

bench-picker: ## measure the index of caches, and the strategies of the picker on request traces
	./bench/picker.sh

bench-quality: ## learn outcomes, and measure routing by them on rows held out
	./bench/quality.sh

bench-intent: ## measure what asking a small model for the intent costs beside it
	cargo build --release --locked -p waypost
	python3 bench/intent.py

models: ## train the embedded classifiers again from ../shared/datasets
	./training/make.sh
