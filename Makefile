# Everything one does here. Each line calls one script; the scripts say first what they will do.
.PHONY: help run test lint bench soak setup dist

help:
	@echo 'make run     build, then serve the sample photos (ARGS="--http 127.0.0.1:9000" goes to the server)'
	@echo 'make test    build and run every test (set-up 3, build 20, tests 15 minutes)'
	@echo 'make lint    format, clippy, house rules, licences (7 minutes)'
	@echo 'make bench   measure against real peers (BENCH="render --cell jpeg" for one part)'
	@echo 'make soak    a mixed load for SOAK_SECONDS (600), watching errors and memory'
	@echo 'make setup   only install what the others need'
	@echo 'make dist    the binary for packages, in target/dist'

run:
	@scripts/run.sh $(ARGS)

test:
	@scripts/test.sh

lint:
	@scripts/lint.sh

bench:
	@scripts/bench.sh $(BENCH)

soak:
	@scripts/soak.sh

setup:
	@scripts/setup.sh

dist:
	@scripts/dist.sh
