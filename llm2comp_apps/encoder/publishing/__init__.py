"""An encoder for people who do not have this package: as a folder, and on the Hugging Face hub.

export       the door: writes a folder and compares it with the encoder
body         the network as a plain transformers model
modules      tokenizer and modules of sentence-transformers
onnx_folder  the light runtime's graph with a tokenizer and an example
comparison   the folder's vectors beside the encoder's; ``alone`` is the program that runs it
card         the model card; ``scores`` reads what stands in it
push         to the hub
"""
