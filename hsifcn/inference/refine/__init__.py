"""Back ends that smooth a map by its spectra: CRF and MRF."""
