def devices(kernel, files): return []
class KernelTarget: pass
