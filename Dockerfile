# For a CPU:  docker build -t cql_atari .
# For a GPU:  docker build -t cql_atari --build-arg EXTRAS=[gpu] .
#   (CUDA comes with the packages; run it with --gpus all)
#
#   docker run -v $PWD:/work cql_atari cql_atari.train --base_dir=runs/demo --gin_files=cql_demo.gin
FROM python:3.11-slim
ARG EXTRAS=
# What OpenCV links to.
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
  && rm -rf /var/lib/apt/lists/*
COPY . /src
# The same versions for both, of every package.
RUN pip install --no-cache-dir -c /src/constraints.txt "/src${EXTRAS}"
WORKDIR /work
ENTRYPOINT ["python", "-m"]
CMD ["cql_atari"]
