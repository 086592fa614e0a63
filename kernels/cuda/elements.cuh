// A thread an element, in a loop over what is beyond the grid.
#define NBDL_EACH(i, count)                                                                                  \
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < (count); i += (long long)gridDim.x * blockDim.x)
