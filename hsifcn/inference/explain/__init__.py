"""How a map came about: stages, upsampling, wavelengths, receptive field."""
