# hsifcn with PyTorch for CPUs: docker build -t hsifcn . && docker run --rm -v "$PWD:/data" hsifcn demo
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hsifcn hsifcn
COPY data data
# Wheels of PyTorch for CPUs, without 2 GB of CUDA, come from its own index; its address is on
# pytorch.org under "Get started": docker build --build-arg TORCH_INDEX=ADDRESS -t hsifcn .
ARG TORCH_INDEX=""
RUN python -m venv /opt/hsifcn \
 && /opt/hsifcn/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} \
    "$(grep '^torch==' constraints.txt)" \
 && /opt/hsifcn/bin/pip install --no-cache-dir '.[zarr,onnx,dask]' \
 && find /opt/hsifcn -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.13-slim
COPY --from=build /opt/hsifcn /opt/hsifcn
ENV PATH=/opt/hsifcn/bin:$PATH HSIFCN_CACHE=/tmp/hsifcn
RUN useradd --create-home hsifcn
USER hsifcn
WORKDIR /data
ENTRYPOINT ["hsifcn"]
CMD ["--help"]
