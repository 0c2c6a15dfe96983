# hsifcn with PyTorch for CPUs, whose wheels, without gigabytes of CUDA, come from an index of their
# own. Its address is on pytorch.org under "Get started"; without it the image has CUDA too.
#   docker build --build-arg TORCH_INDEX=ADDRESS -t hsifcn .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" hsifcn train cube.mat
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hsifcn hsifcn
COPY data data
ARG TORCH_INDEX=""
RUN python -m venv /opt/hsifcn \
 && /opt/hsifcn/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    "$(grep '^torch==' constraints.txt)" \
 && /opt/hsifcn/bin/pip install --no-cache-dir -c constraints.txt '.[zarr,onnx,dask,remote]' \
 && find /opt/hsifcn -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.13-slim
# The wheels of rasterio want it from the system, which slim images lack.
RUN apt-get update \
 && apt-get install --no-install-recommends -y libexpat1 \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/hsifcn /opt/hsifcn
ENV PATH=/opt/hsifcn/bin:$PATH HSIFCN_CACHE=/tmp/hsifcn MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --uid 1000 --create-home hsifcn
USER 1000
WORKDIR /data
ENTRYPOINT ["hsifcn"]
CMD ["--help"]
