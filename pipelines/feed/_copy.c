/* Copying history windows: many slices of one array, one after the other, into memory that is there.

   windows.py does the same through Arrow where this was not compiled. It is here for two things that no library does:
   a window is asked for while those before it are copied, and large batches are written past the caches, which would
   otherwise read every line of memory before it is overwritten. Together they halve the time. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define PAST_CACHES 1
#else
#define PAST_CACHES 0
#endif

/* Less than this stays in a core's cache, where who asked for it finds it. */
#define LARGE_BYTES (1 << 21)
#define LINE 64
/* How much of a window is asked for ahead; the processor finds the rest by itself. */
#define AHEAD_BYTES 2048

#if PAST_CACHES
typedef char *(*copy_lines)(char *to, const char *from, int64_t lines);

static char *copy_lines_16(char *to, const char *from, int64_t lines)
{
    for (int64_t at = 0; at < lines * LINE; at += 16)
        _mm_stream_si128((__m128i *)(to + at), _mm_loadu_si128((const __m128i *)(from + at)));
    return to + lines * LINE;
}

__attribute__((target("avx2"))) static char *copy_lines_32(char *to, const char *from, int64_t lines)
{
    for (int64_t at = 0; at < lines * LINE; at += 32)
        _mm256_stream_si256((__m256i *)(to + at), _mm256_loadu_si256((const __m256i *)(from + at)));
    return to + lines * LINE;
}

/* Where the next byte goes, how many come before its memory is at the start of a line, and what of a line waits here
   until the next windows have filled it: lines are written whole. */
typedef struct {
    char *to;
    int64_t head, held;
    char line[LINE];
} target;

static inline void copy_past_caches(target *at, const char *from, int64_t bytes, copy_lines lines)
{
    if (at->head) {
        int64_t some = at->head < bytes ? at->head : bytes;
        memcpy(at->to, from, (size_t)some);
        at->to += some, at->head -= some, from += some, bytes -= some;
    }
    if (at->held) {
        int64_t some = LINE - at->held < bytes ? LINE - at->held : bytes;
        memcpy(at->line + at->held, from, (size_t)some);
        at->held += some, from += some, bytes -= some;
        if (at->held < LINE)
            return;
        at->to = copy_lines_16(at->to, at->line, 1);
    }
    at->to = lines(at->to, from, bytes / LINE);
    at->held = bytes % LINE;
    memcpy(at->line, from + bytes - at->held, (size_t)at->held);
}
#endif

/* The number of the first window that is not inside its source, or for which there is no room; -1 if there is none. */
static int64_t copy(const char *source, int64_t count, const int64_t *starts, const int64_t *lengths, int64_t windows,
                    int64_t width, char *out, int64_t room)
{
    int64_t left = room / width;
    for (int64_t i = 0; i < windows; i++) {
        if (starts[i] < 0 || lengths[i] < 0 || starts[i] > count || lengths[i] > count - starts[i] || lengths[i] > left)
            return i;
        left -= lengths[i];
    }
#if PAST_CACHES
    if ((room / width - left) * width >= LARGE_BYTES) {
        copy_lines lines = __builtin_cpu_supports("avx2") ? copy_lines_32 : copy_lines_16;
        target at = {out, (int64_t)(-(uintptr_t)out & (LINE - 1)), 0, {0}};
        for (int64_t i = 0; i < windows; i++) {
            if (i + 3 < windows) {
                const char *next = source + starts[i + 3] * width;
                int64_t bytes = lengths[i + 3] * width;
                for (int64_t line = 0; line < bytes && line < AHEAD_BYTES; line += LINE)
                    _mm_prefetch(next + line, _MM_HINT_T1);
            }
            copy_past_caches(&at, source + starts[i] * width, lengths[i] * width, lines);
        }
        memcpy(at.to, at.line, (size_t)at.held);
        _mm_sfence();
        return -1;
    }
#endif
    for (int64_t i = 0; i < windows; i++) {
        memcpy(out, source + starts[i] * width, (size_t)(lengths[i] * width));
        out += lengths[i] * width;
    }
    return -1;
}

PyDoc_STRVAR(copy_windows_doc,
             "copy_windows(source, starts, lengths, width, out, offset)\n--\n\n"
             "Copy source[starts[i] : starts[i] + lengths[i]], one after the other, into out from byte `offset` on.\n\n"
             "source and out are contiguous, of elements of `width` bytes; starts and lengths are int64. Without the GIL.\n"
             "Raises ValueError, and copies nothing, where a window is not inside its source or out has no room.");

static PyObject *copy_windows(PyObject *module, PyObject *args)
{
    Py_buffer source, starts, lengths, out;
    Py_ssize_t width, offset;
    PyObject *done = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*y*nw*n", &source, &starts, &lengths, &width, &out, &offset))
        return NULL;
    if (width < 1 || offset < 0 || offset > out.len || starts.len != lengths.len || starts.len % 8)
        PyErr_SetString(PyExc_ValueError, "copy_windows: as many starts as lengths, and a place inside out");
    else {
        int64_t wrong;
        Py_BEGIN_ALLOW_THREADS
        wrong = copy(source.buf, source.len / width, starts.buf, lengths.buf, starts.len / 8, width,
                     (char *)out.buf + offset, out.len - offset);
        Py_END_ALLOW_THREADS
        if (wrong < 0)
            done = Py_NewRef(Py_None);
        else
            PyErr_Format(PyExc_ValueError, "copy_windows: window %lld is not inside its source, or out has no room",
                         (long long)wrong);
    }
    PyBuffer_Release(&source), PyBuffer_Release(&starts), PyBuffer_Release(&lengths), PyBuffer_Release(&out);
    return done;
}

static PyMethodDef methods[] = {{"copy_windows", copy_windows, METH_VARARGS, copy_windows_doc}, {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_copy", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__copy(void)
{
    return PyModuleDef_Init(&definition);
}
