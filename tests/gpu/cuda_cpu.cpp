// The runtime behind cuda_cpu.h: blocks one after the other, the threads of a block as fibres.
//
// A launch ends with a message where a kernel touches memory that is not its own, where its threads wait for each
// other in vain, where two threads touch the same memory with no order between them, or where it takes too long.
#include "cuda_cpu.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unordered_map>
#include <vector>

extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
}

namespace {

constexpr int MAX_THREADS = 1024;
constexpr size_t STACK = 64 << 10, PAGE = 4096;
constexpr size_t MAX_STATIC_SHARED = 48 << 10, MAX_DYNAMIC_SHARED = 227 << 10;

enum class State { READY, BARRIER, WARP, DONE };

struct Fibre {
    ucontext_t context;
    State state;
    int line;  // of the barrier or warp operation it waits at
    CudaCpuWarpOp op;
    unsigned mask;
    uint64_t value, result;
    int argument, width;
};

Fibre fibres[MAX_THREADS];
ucontext_t scheduler;
sigjmp_buf launch_exit;
char* stacks;
int threads, current;
bool in_fibre;
const CudaCpuLaunch* launched;
char* dynamic_shared;
char message[512];
void* place;  // in the kernel's code: the last access to memory

[[noreturn]] void fail(const char* format, ...) {
    int n = 0;
    if (in_fibre)
        n = snprintf(message, sizeof message, "block (%u,%u,%u), thread (%u,%u,%u): ", blockIdx.x, blockIdx.y, blockIdx.z,
                     threadIdx.x, threadIdx.y, threadIdx.z);
    va_list list;
    va_start(list, format);
    vsnprintf(message + n, sizeof message - n, format, list);
    va_end(list);
    siglongjmp(launch_exit, 1);
}

// Where in the module the last access is; the loader turns it into a line.
const char* describe_place() {
    static char text[32];
    Dl_info info;
    if (!place || !dladdr(place, &info)) return "";
    snprintf(text, sizeof text, " @%lx", (unsigned long)(static_cast<char*>(place) - static_cast<char*>(info.dli_fbase)) - 1);
    return text;
}

// ------------------------------------------------------------------------------------------------ data races
// The last accesses to an address. Two are ordered if a barrier of the block, or of the warp, lies between them.
struct Access {
    long block = -1;
    unsigned epoch, warp_epoch;
    int thread;
    bool atomic, many;  // many: other threads accessed it as well since the last barrier
};
struct Cell { Access read, write; };
std::unordered_map<uintptr_t, Cell> shadow;
long block_number;
unsigned epoch, warp_epochs[MAX_THREADS / 32];

bool is_within(const void* p, const void* begin, const void* end) { return p >= begin && p < end; }
bool is_shared(const void* p) {
    return is_within(p, launched->shared_begin, launched->shared_end) ||
           (dynamic_shared && is_within(p, dynamic_shared, dynamic_shared + launched->dynamic_shared));
}
bool is_own(const void* p) {
    return is_within(p, stacks, stacks + STACK * MAX_THREADS) || is_within(p, &threadIdx, &threadIdx + 1) ||
           is_within(p, &blockIdx, &blockIdx + 1) || is_within(p, &blockDim, &blockDim + 1) ||
           is_within(p, &gridDim, &gridDim + 1);
}
bool is_unordered(const Access& before, const Access& now) {
    if (before.block < 0 || (before.atomic && now.atomic)) return false;
    if (before.block != now.block) return true;
    if (before.epoch != now.epoch) return false;
    if (before.thread == now.thread) return before.many;
    const bool warp_synced = before.thread / 32 == now.thread / 32 && before.warp_epoch != now.warp_epoch;
    return before.many || !warp_synced;
}
void check_order(const Access& before, const Access& now, const char* then, const char* here) {
    if (is_unordered(before, now))
        fail("data race with thread %d of block %ld, which %s the address that this one %s, with no barrier or atomic "
             "between%s", before.thread, before.block, then, here, describe_place());
}
void touch(uintptr_t address, bool writes, bool atomic) {
    const void* p = reinterpret_cast<void*>(address);
    if (!in_fibre || is_own(p)) return;
    Cell& cell = shadow[address];
    if (is_shared(p)) {  // every block has its own
        if (cell.read.block != block_number) cell.read.block = -1;
        if (cell.write.block != block_number) cell.write.block = -1;
    }
    Access now{block_number, epoch, warp_epochs[current / 32], current, atomic, false};
    check_order(cell.write, now, "writes", writes ? "writes" : "reads");
    if (writes) {
        check_order(cell.read, now, "reads", "writes");
        cell.write = now;
    } else {
        const bool same_epoch = cell.read.block == now.block && cell.read.epoch == now.epoch;
        now.many = same_epoch && (cell.read.many || cell.read.thread != current);
        cell.read = now;
    }
}
void touch_range(const void* address, size_t size, bool writes, bool atomic, void* caller) {
    place = caller;
    const size_t step = size < 4 ? 1 : 4;
    for (size_t k = 0; k < size; k += step) touch(reinterpret_cast<uintptr_t>(address) + k, writes, atomic);
}

// ------------------------------------------------------------------------------------------------ fibres
void suspend() {
    in_fibre = false;
    swapcontext(&fibres[current].context, &scheduler);
}
void fibre_main() {
    launched->entry(launched->kernel, launched->arguments);
    fibres[current].state = State::DONE;
    suspend();
}
void resume(int k) {
    current = k;
    threadIdx = {k % blockDim.x, k / blockDim.x % blockDim.y, k / (blockDim.x * blockDim.y)};
    in_fibre = true;
    swapcontext(&scheduler, &fibres[k].context);
    in_fibre = false;
}
const char* describe(int k, char* text, size_t size) {
    static const char* what[] = {"is ready", "waits at __syncthreads", "waits in a warp operation", "has returned"};
    const Fibre& fibre = fibres[k];
    const int n = snprintf(text, size, "thread %d %s", k, what[int(fibre.state)]);
    if (fibre.state == State::BARRIER || fibre.state == State::WARP) snprintf(text + n, size - n, " in line %d", fibre.line);
    return text;
}
[[noreturn]] void fail_divergent(int a, int b) {
    char first[96], second[96];
    fail("block (%u,%u,%u) cannot go on: %s, but %s", blockIdx.x, blockIdx.y, blockIdx.z, describe(a, first, sizeof first),
         describe(b, second, sizeof second));
}
// Let all threads pass the barrier that every one of them must have reached, now that none can go on.
void release_barrier() {
    int waiting = 0;
    while (fibres[waiting].state == State::DONE) ++waiting;
    for (int k = 0; k < threads; ++k)
        if (fibres[k].state != State::BARRIER || fibres[k].line != fibres[waiting].line)
            fail_divergent(waiting, k == waiting ? (k + 1) % threads : k);
    for (int k = 0; k < threads; ++k) fibres[k].state = State::READY;
    ++epoch;
}
void start_fibres() {
    for (int k = 0; k < threads; ++k) {
        Fibre& fibre = fibres[k];
        fibre.state = State::READY;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = stacks + k * STACK;
        fibre.context.uc_stack.ss_size = STACK;
        fibre.context.uc_link = nullptr;
        makecontext(&fibre.context, fibre_main, 0);
    }
}
void run_block(const std::vector<int>& order) {
    // What is not written before it is read shall be seen: NaN as a float, -1 as an integer.
    if (launched->shared_begin) memset(launched->shared_begin, 0xff, launched->shared_end - launched->shared_begin);
    if (dynamic_shared) memset(dynamic_shared, 0xff, launched->dynamic_shared);
    start_fibres();
    for (;;) {
        bool progress = false, running = false;
        for (int k : order) {
            if (fibres[k].state == State::READY) {
                progress = true;
                resume(k);
            }
            running |= fibres[k].state != State::DONE;
        }
        if (!running) return;
        if (!progress) release_barrier();
    }
}

// ------------------------------------------------------------------------------------------------ launches
void on_signal(int signal, siginfo_t* info, void*) {
    if (signal == SIGVTALRM) fail("the kernel did not end within %d seconds of computing", launched->seconds);
    if (signal == SIGFPE) fail("integer division by zero");
    fail("illegal memory access to %p%s", info->si_addr, describe_place());
}
constexpr int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGVTALRM};

// Handlers and the timer for the time of a launch.
struct Watch {
    struct sigaction before[4];
    Watch() {
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_SIGINFO | SA_NODEFER;
        for (int k = 0; k < 4; ++k) sigaction(SIGNALS[k], &action, &before[k]);
        set_timer(launched->seconds);
    }
    ~Watch() {
        set_timer(0);
        for (int k = 0; k < 4; ++k) sigaction(SIGNALS[k], &before[k], nullptr);
    }
    static void set_timer(int seconds) {
        const itimerval timer = {{0, 0}, {seconds, 0}};
        setitimer(ITIMER_VIRTUAL, &timer, nullptr);
    }
};

// Dynamic shared memory that ends at an unreadable page.
struct Guarded {
    char* region = nullptr;
    size_t span = 0;
    explicit Guarded(size_t size) {
        dynamic_shared = nullptr;
        if (!size) return;
        span = (size + PAGE - 1) / PAGE * PAGE + PAGE;
        region = static_cast<char*>(mmap(nullptr, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        mprotect(region + span - PAGE, PAGE, PROT_NONE);
        dynamic_shared = region + span - PAGE - (size + 15) / 16 * 16;
    }
    ~Guarded() {
        if (region) munmap(region, span);
        dynamic_shared = nullptr;
    }
};

const char* invalid_configuration(const CudaCpuLaunch& launch) {
    const unsigned* d = launch.dims;
    if (!d[0] || !d[1] || !d[2] || d[1] > 65535 || d[2] > 65535) return "invalid configuration: the grid";
    if (!threads || threads > MAX_THREADS || d[5] > 64) return "invalid configuration: 1 to 1024 threads a block";
    if (size_t(launch.shared_end - launch.shared_begin) > MAX_STATIC_SHARED) return "more than 48 KiB of static shared memory";
    if (launch.dynamic_shared > MAX_DYNAMIC_SHARED) return "more dynamic shared memory than a device has";
    return nullptr;
}
// The order in which threads get their turns: 0 forward, 1 backward, else shuffled.
std::vector<int> thread_order(unsigned seed) {
    std::vector<int> order(threads);
    for (int k = 0; k < threads; ++k) order[k] = seed == 1 ? threads - 1 - k : k;
    for (unsigned k = threads - 1, random = seed; seed > 1 && k > 0; --k) {
        random = random * 1664525u + 1013904223u;
        std::swap(order[k], order[(random >> 8) % (k + 1)]);
    }
    return order;
}

}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {

const char* cuda_cpu_launch(const CudaCpuLaunch* launch) {
    launched = launch;
    const unsigned* d = launch->dims;
    gridDim = {d[0], d[1], d[2]};
    blockDim = {d[3], d[4], d[5]};
    const uint64_t wanted = uint64_t(d[3]) * d[4] * d[5];
    threads = wanted > MAX_THREADS ? MAX_THREADS + 1 : int(wanted);
    if (const char* error = invalid_configuration(*launch)) return error;
    if (!stacks)
        stacks = static_cast<char*>(mmap(nullptr, STACK * MAX_THREADS, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    Guarded guarded(launch->dynamic_shared);
    Watch watch;
    const std::vector<int> order = thread_order(launch->seed);
    const char* error = nullptr;
    in_fibre = false;
    place = nullptr;
    shadow.clear();
    if (sigsetjmp(launch_exit, 1)) {
        error = message;
    } else {
        const long blocks = long(d[0]) * d[1] * d[2];
        for (long k = 0; k < blocks; ++k) {
            block_number = launch->seed == 1 ? blocks - 1 - k : k;
            blockIdx = {unsigned(block_number % d[0]), unsigned(block_number / d[0] % d[1]),
                        unsigned(block_number / d[0] / d[1])};
            ++epoch;
            run_block(order);
        }
    }
    in_fibre = false;
    return error;
}

void* cuda_cpu_dynamic_shared() { return dynamic_shared; }

void cuda_cpu_barrier(int line) {
    fibres[current].state = State::BARRIER;
    fibres[current].line = line;
    suspend();
}

uint64_t cuda_cpu_warp(CudaCpuWarpOp op, unsigned mask, uint64_t value, int argument, int width, int line) {
    Fibre& me = fibres[current];
    const int first = current / 32 * 32;
    if (!(mask >> (current - first) & 1)) fail("line %d: the lane is not in its own mask 0x%08x", line, mask);
    me.state = State::WARP;
    me.op = op;
    me.mask = mask;
    me.value = value;
    me.argument = argument;
    me.width = width;
    me.line = line;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        if (first + lane >= threads) fail("line %d: mask 0x%08x names lane %d, which the block has not", line, mask, lane);
        const Fibre& other = fibres[first + lane];
        if (other.state == State::DONE) fail("line %d: mask 0x%08x names lane %d, which has exited", line, mask, lane);
        if (other.state == State::WARP && (other.op != op || other.mask != mask))
            fail("line %d: lane %d is in another warp operation (line %d)", line, lane, other.line);
        if (other.state != State::WARP) {
            suspend();
            return me.result;
        }
    }
    // The last lane to arrive moves the values of all.
    unsigned ballot = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1) ballot |= unsigned(fibres[first + lane].value & 1) << lane;
    for (int lane = 0; lane < 32; ++lane) {
        if (!(mask >> lane & 1)) continue;
        Fibre& fibre = fibres[first + lane];
        const int segment = lane & ~(fibre.width - 1), end = segment + fibre.width, n = fibre.argument;
        int source = lane;
        if (op == CUDA_CPU_INDEX) source = segment + (n & (fibre.width - 1));
        if (op == CUDA_CPU_UP && lane - n >= segment) source = lane - n;
        if (op == CUDA_CPU_DOWN && lane + n < end) source = lane + n;
        if (op == CUDA_CPU_XOR && (lane ^ n) < end) source = lane ^ n;
        const bool known = mask >> source & 1;  // a lane outside the mask gives an undefined value
        fibre.result = op == CUDA_CPU_BALLOT ? ballot : known ? fibres[first + source].value : ~uint64_t(0);
        fibre.state = State::READY;
    }
    if (mask == CUDA_CPU_WARP) ++warp_epochs[current / 32];
    return me.result;
}

void cuda_cpu_atomic_access(const void* address, int size) { touch_range(address, size, true, true, CALLER); }

double cuda_cpu_erfinv(double x) {
    if (!(fabs(x) < 1)) return fabs(x) == 1 ? copysign(HUGE_VAL, x) : __builtin_nan("");
    // Winitzki's approximation, then Newton's method on erfc, which keeps its digits where erf is close to 1.
    const double a = 0.147, z = fabs(x), log_term = log1p(-z * z), b = 2 / (M_PI * a) + log_term / 2;
    long double y = sqrt(sqrt(b * b - log_term / a) - b);
    for (int k = 0; k < 6; ++k) y -= ((1 - (long double)z) - erfcl(y)) * 0.88622692545275801365L * expl(y * y);
    return copysign(double(y), x);
}

// ---------------------------------------------------------------- hooks of -fsanitize=thread; libtsan is not linked
#define CUDA_CPU_HOOKS(n)                                                                                \
    void __tsan_read##n(void* p) { touch_range(p, n, false, false, CALLER); }                                    \
    void __tsan_write##n(void* p) { touch_range(p, n, true, false, CALLER); }                                    \
    void __tsan_unaligned_read##n(void* p) { touch_range(p, n, false, false, CALLER); }                          \
    void __tsan_unaligned_write##n(void* p) { touch_range(p, n, true, false, CALLER); }
CUDA_CPU_HOOKS(1)
CUDA_CPU_HOOKS(2)
CUDA_CPU_HOOKS(4)
CUDA_CPU_HOOKS(8)
CUDA_CPU_HOOKS(16)
void __tsan_read_range(void* p, size_t n) { touch_range(p, n, false, false, CALLER); }
void __tsan_write_range(void* p, size_t n) { touch_range(p, n, true, false, CALLER); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void* __tsan_memcpy(void* to, const void* from, size_t n) {
    touch_range(from, n, false, false, CALLER);
    touch_range(to, n, true, false, CALLER);
    return memcpy(to, from, n);
}
void* __tsan_memset(void* to, int value, size_t n) {
    touch_range(to, n, true, false, CALLER);
    return memset(to, value, n);
}

// ------------------------------------------------- hooks of -fsanitize=bounds,alignment,integer-divide-by-zero
struct CudaCpuSite { const char* file; uint32_t line, column; };
void __ubsan_handle_out_of_bounds_abort(CudaCpuSite* site, void*) { fail("line %u: index outside its array", site->line); }
void __ubsan_handle_type_mismatch_v1_abort(CudaCpuSite* site, void*) { fail("line %u: misaligned access", site->line); }
void __ubsan_handle_divrem_overflow_abort(CudaCpuSite* site, void*, void*) {
    fail("line %u: integer division by zero", site->line);
}

}  // extern "C"
