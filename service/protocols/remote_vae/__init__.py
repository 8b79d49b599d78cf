"""Remote VAE: the protocol of `remote_encode` and `remote_decode` in Hugging Face's library diffusers.

The endpoints that its authors ran are gone; the clients are not (diffusers 0.42.1, SD.Next and ComfyUI-HFRemoteVae,
read in November 2026).
"""
