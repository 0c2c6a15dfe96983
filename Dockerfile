# hsifcn with PyTorch for CPUs: docker build -t hsifcn . && docker run --rm -v "$PWD:/data" hsifcn demo
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY hsifcn hsifcn
COPY data data
# From PyTorch's own index, as the wheel on PyPI brings 2 GB of CUDA.
RUN python -m venv /opt/hsifcn \
 && /opt/hsifcn/bin/pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
    "$(grep '^torch==' constraints.txt)" \
 && /opt/hsifcn/bin/pip install --no-cache-dir '.[zarr,onnx]' \
 && find /opt/hsifcn -name __pycache__ -prune -exec rm -rf {} +

FROM python:3.13-slim
COPY --from=build /opt/hsifcn /opt/hsifcn
ENV PATH=/opt/hsifcn/bin:$PATH HSIFCN_CACHE=/tmp/hsifcn
RUN useradd --create-home hsifcn
USER hsifcn
WORKDIR /data
ENTRYPOINT ["hsifcn"]
CMD ["--help"]
