"""Input files of SCALE-Sim 3.0.0 for one GEMM (its configuration reader wants every one of these keys)."""

CONFIG = """\
[general]
run_name = gemm
[run_presets]
InterfaceBandwidth = USER
UseRamulatorTrace = False
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
IfmapSramSzkB = {data_kib}
FilterSramSzkB = {weight_kib}
OfmapSramSzkB = {acc_kib}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Bandwidth = {port_bytes}
Dataflow = ws
ReadRequestBuffer = 64
WriteRequestBuffer = 64
[layout]
IfmapCustomLayout = False
IfmapSRAMBankBandwidth = 8
IfmapSRAMBankNum = 8
IfmapSRAMBankPort = 2
FilterCustomLayout = False
FilterSRAMBankBandwidth = 8
FilterSRAMBankNum = 8
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = false
SparseRep = ellpack_block
OptimizedMapping = false
BlockSize = 8
RandomNumberGeneratorSeed = 40
"""
TOPOLOGY = "Layer,M,N,K,\ngemm,{m},{n},{k},\n"
LAYOUT = f"Layer name,{'factor,' * 20}\ngemm,{'1,' * 20}\n"
"""A layout is asked for even where none is used."""
