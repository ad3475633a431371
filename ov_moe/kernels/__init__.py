"""From a description of a block to OpenCL programs: stages, configuration, composition, custom-layer XML."""
