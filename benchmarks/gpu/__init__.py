"""Proves on a device that previews cost a sampler next to nothing, or their order on a fake device."""
