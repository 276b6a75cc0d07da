/* The values of Parquet pages as shard_writer writes them: data pages of version 1, lists one deep, bytes of equal rank
   together (BYTE_STREAM_SPLIT).

   shard_pages.py says how it is used, and Arrow reads the same where this was not compiled. Arrow puts lists together
   level by level, for any nesting; here a run of equal levels is one step, and values go straight to where they are
   wanted. Every read is within the bytes that were given, whatever they are. */

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__)
#include <immintrin.h>
#define X86 1
#else
#define X86 0
#endif

typedef struct {
    const uint8_t *at, *end;
    int wrong;
} bytes;

static uint64_t varint(bytes *in)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && in->at < in->end; shift += 7) {
        uint8_t byte = *in->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    in->wrong = 1;
    return 0;
}

static int64_t zigzag(bytes *in)
{
    uint64_t value = varint(in);
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* Page headers are Thrift, in its compact protocol (thrift-compact-protocol.md); the fields are parquet.thrift's. */

enum { STOP, YES, NO, BYTE, I16, I32, I64, DOUBLE, BINARY, STRUCT = 12 };

static int next_field(bytes *in, int64_t *id)
{
    if (in->at >= in->end) {
        in->wrong = 1;
        return STOP;
    }
    uint8_t head = *in->at++;
    if (head == STOP)
        return STOP;
    *id = head >> 4 ? *id + (head >> 4) : zigzag(in);
    return head & 15;
}

static void skip(bytes *in, int type, int depth)
{
    int64_t id = 0;
    uint64_t size = 0;
    if (type == BYTE || type == DOUBLE)
        size = type == BYTE ? 1 : 8;
    else if (type == I16 || type == I32 || type == I64)
        varint(in);
    else if (type == BINARY)
        size = varint(in);
    else if (type == STRUCT && depth < 8)
        for (int inner; !in->wrong && (inner = next_field(in, &id)) != STOP;)
            skip(in, inner, depth + 1);
    else if (type != YES && type != NO)
        in->wrong = 1;
    if (size > (uint64_t)(in->end - in->at))
        in->wrong = 1;
    else
        in->at += size;
}

typedef struct {
    int64_t type, plain, packed, values, encoding, definition, repetition;
} header;

static void data_page(bytes *in, header *found)
{
    int64_t id = 0, *places[] = {&found->values, &found->encoding, &found->definition, &found->repetition};
    for (int type; !in->wrong && (type = next_field(in, &id)) != STOP;)
        if (type == I32 && id >= 1 && id <= 4)
            *places[id - 1] = zigzag(in);
        else
            skip(in, type, 0);
}

static void page_header(bytes *in, header *found)
{
    int64_t id = 0, *places[] = {&found->type, &found->plain, &found->packed};
    for (int type; !in->wrong && (type = next_field(in, &id)) != STOP;)
        if (type == I32 && id >= 1 && id <= 3)
            *places[id - 1] = zigzag(in);
        else if (type == STRUCT && id == 5)
            data_page(in, found);
        else
            skip(in, type, 0);
}

PyDoc_STRVAR(page_doc,
             "page(chunk, at)\n--\n\n"
             "The page whose header is at byte `at`: (where its body begins, the body's length, its length decompressed,\n"
             "the number of levels or values, the encoding as parquet.thrift counts them). None where it is not a data\n"
             "page of version 1 with levels in runs. Raises ValueError where there is no page.");

static PyObject *page(PyObject *module, PyObject *args)
{
    Py_buffer chunk;
    Py_ssize_t at;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*n", &chunk, &at))
        return NULL;
    const uint8_t *begin = chunk.buf;
    header found = {-1, -1, -1, -1, -1, 3, 3};
    bytes in = {begin + at, begin + chunk.len, at < 0 || at > chunk.len};
    if (!in.wrong)
        page_header(&in, &found);
    PyObject *told = NULL;
    if (in.wrong || found.packed < 0 || found.plain < 0 || found.packed > in.end - in.at)
        PyErr_SetString(PyExc_ValueError, "page: no page header");
    else if (found.type != 0 || found.values < 0 || found.definition != 3 || found.repetition != 3)
        told = Py_NewRef(Py_None);
    else
        told = Py_BuildValue("LLLLL", (long long)(in.at - begin), (long long)found.packed, (long long)found.plain,
                             (long long)found.values, (long long)found.encoding);
    PyBuffer_Release(&chunk);
    return told;
}

/* Levels: runs of one value, and groups of eight that are packed bit by bit (Encodings.md, RLE). Widths of 1 and 2. */
typedef struct {
    bytes in;
    int width, value, bit;
    int64_t left; /* of the run, or of the packed values */
    const uint8_t *packed;
} levels;

/* How many levels from here on are `value`; of packed ones each by itself. 0 where there are none. */
static int64_t run(levels *of)
{
    while (of->left == 0) {
        uint64_t head = varint(&of->in);
        if (of->in.wrong || head >> 32)
            return 0;
        of->left = (int64_t)(head >> 1);
        of->packed = NULL;
        if (head & 1) {
            if (of->left * of->width > of->in.end - of->in.at)
                return 0;
            of->packed = of->in.at;
            of->bit = 0;
            of->in.at += of->left * of->width;
            of->left *= 8;
        } else if (of->in.at < of->in.end)
            of->value = *of->in.at++;
        else
            return 0;
    }
    if (of->packed == NULL)
        return of->left;
    of->value = *of->packed >> of->bit & ((1 << of->width) - 1);
    return 1;
}

static void advance(levels *of, int64_t count)
{
    of->left -= count;
    if (of->packed != NULL && (of->bit += of->width) == 8) {
        of->bit = 0;
        of->packed++;
    }
}

/* Levels stand behind their length in four bytes. */
static levels levels_of(bytes *in, int width)
{
    levels found = {{in->at, in->at, 0}, width, 0, 0, 0, NULL};
    uint32_t size = 0;
    if (in->end - in->at < 4)
        in->wrong = 1;
    else
        for (int i = 0; i < 4; i++)
            size |= (uint32_t)*in->at++ << 8 * i;
    if (size > in->end - in->at)
        in->wrong = 1;
    if (!in->wrong) {
        found.in.at = in->at;
        found.in.end = in->at += size;
    }
    return found;
}

typedef struct {
    int64_t *starts, rows, most_rows, elements, most, present;
    uint8_t *valid;
} lists;

/* Eight packed levels of repetition where every element is there: what short lists are made of. 0 where it is not so. */
static int read_eight(levels *repetition, levels *definition, int64_t values, int full, lists *to)
{
    if (repetition->packed == NULL || repetition->bit || repetition->left < 8 || definition->packed != NULL ||
        definition->left < 8 || definition->value != full || values < 8 || to->valid != NULL || to->rows == 0 ||
        to->most_rows - to->rows < 8 || to->most - to->elements < 8)
        return 0;
    for (int i = 0; i < 8; i++) {
        to->starts[to->rows] = to->elements++;
        to->rows += !(*repetition->packed >> i & 1);
    }
    to->present += 8;
    repetition->packed++;
    repetition->left -= 8;
    definition->left -= 8;
    return 1;
}

/* 0 where the levels are not those of lists, or more than there is room for. */
static int read_lists(levels *repetition, levels *definition, int64_t values, int full, lists *to)
{
    while (values > 0) {
        if (read_eight(repetition, definition, values, full, to)) {
            values -= 8;
            continue;
        }
        int64_t count = run(repetition), defined = run(definition);
        count = count < defined ? count : defined;
        count = count < values ? count : values;
        int there = definition->value > 0, again = repetition->value > 0;
        if (count == 0 || repetition->value > 1 || definition->value > full)
            return 0;
        if (again ? !there || to->rows == 0 : count > to->most_rows - to->rows)
            return 0;
        if (there && count > to->most - to->elements)
            return 0;
        if (!again)
            for (int64_t i = 0; i < count; i++)
                to->starts[to->rows++] = to->elements + (there ? i : 0);
        if (there && to->valid != NULL)
            memset(to->valid + to->elements, definition->value == full, (size_t)count);
        else if (there && definition->value != full)
            return 0;
        to->elements += there ? count : 0;
        to->present += definition->value == full ? count : 0;
        values -= count;
        advance(repetition, count);
        advance(definition, count);
    }
    return 1;
}

PyDoc_STRVAR(list_levels_doc,
             "list_levels(body, levels, full, starts, rows, elements, valid)\n--\n\n"
             "The lists that the levels at the start of a page's body mean, the first of them number `rows`, their\n"
             "elements counted from `elements`: (lists, elements, values in this page, where those begin).\n\n"
             "starts: int64, at each list's number its first element is written. full: the definition level of a value,\n"
             "1 where elements are never null, else 2. valid: bool by element, written where it is given; None where no\n"
             "element may be null. Raises ValueError where the levels are not those, or there is no room.");

static PyObject *list_levels(PyObject *module, PyObject *args)
{
    Py_buffer body, starts, valid = {0};
    PyObject *valid_or_none, *told = NULL;
    Py_ssize_t values, rows, elements;
    int full;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*niw*nnO", &body, &values, &full, &starts, &rows, &elements, &valid_or_none))
        return NULL;
    int flags = valid_or_none != Py_None;
    if (flags && PyObject_GetBuffer(valid_or_none, &valid, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&body), PyBuffer_Release(&starts);
        return NULL;
    }
    const uint8_t *begin = body.buf;
    bytes in = {begin, begin + body.len, full < 1 || full > 2 || rows < 0 || elements < 0};
    lists to = {starts.buf, rows, starts.len / 8, elements, flags ? valid.len : INT64_MAX, 0, flags ? valid.buf : NULL};
    int right = 0;
    Py_BEGIN_ALLOW_THREADS
    if (!in.wrong) {
        levels repetition = levels_of(&in, 1), definition = levels_of(&in, full);
        right = !in.wrong && read_lists(&repetition, &definition, values, full, &to);
    }
    Py_END_ALLOW_THREADS
    if (right)
        told = Py_BuildValue("LLLL", (long long)to.rows, (long long)to.elements, (long long)to.present,
                             (long long)(in.at - begin));
    else
        PyErr_SetString(PyExc_ValueError, "list_levels: not the levels of such lists");
    if (flags)
        PyBuffer_Release(&valid);
    PyBuffer_Release(&body), PyBuffer_Release(&starts);
    return told;
}

#if defined(__GNUC__) || defined(__clang__)
#define FOR_EACH_WIDTH static inline __attribute__((always_inline))
#else
#define FOR_EACH_WIDTH static inline
#endif

/* Byte b of value i is from[b * count + i]. Compiled for each width, so that what goes round below is in registers. */
FOR_EACH_WIDTH void join(const uint8_t *from, int64_t count, int width, uint8_t *to)
{
    int64_t i = 0;
#if X86
    /* Sixteen values at a time: one half of the streams is interleaved with the other, until they are one. */
    for (; i + 16 <= count; i += 16) {
        __m128i streams[8], paired[8];
        for (int b = 0; b < width; b++)
            streams[b] = _mm_loadu_si128((const __m128i *)(from + b * count + i));
        for (int apart = 1; apart < width; apart *= 2) {
            for (int b = 0; b < width / 2; b++) {
                paired[2 * b] = _mm_unpacklo_epi8(streams[b], streams[b + width / 2]);
                paired[2 * b + 1] = _mm_unpackhi_epi8(streams[b], streams[b + width / 2]);
            }
            memcpy(streams, paired, (size_t)width * sizeof(paired[0]));
        }
        for (int b = 0; b < width; b++)
            _mm_storeu_si128((__m128i *)(to + i * width + 16 * b), streams[b]);
    }
#endif
    for (; i < count; i++)
        for (int b = 0; b < width; b++)
            to[i * width + b] = from[b * count + i];
}

PyDoc_STRVAR(join_bytes_doc,
             "join_bytes(body, at, count, width, out, to)\n--\n\n"
             "Put `count` values of `width` bytes (4 or 8) together whose bytes of equal rank are stored together from\n"
             "byte `at` of the body on, into out from value `to` on. Raises ValueError where either has no room.");

static PyObject *join_bytes(PyObject *module, PyObject *args)
{
    Py_buffer body, out;
    Py_ssize_t at, count, to;
    int width;
    PyObject *done = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*nniw*n", &body, &at, &count, &width, &out, &to))
        return NULL;
    if ((width != 4 && width != 8) || at < 0 || count < 0 || to < 0 || at > body.len ||
        count > (body.len - at) / width || to > out.len / width || count > out.len / width - to)
        PyErr_SetString(PyExc_ValueError, "join_bytes: the values are not inside the body, or out has no room");
    else {
        const uint8_t *from = (const uint8_t *)body.buf + at;
        uint8_t *into = (uint8_t *)out.buf + to * width;
        Py_BEGIN_ALLOW_THREADS
        if (width == 8)
            join(from, count, 8, into);
        else
            join(from, count, 4, into);
        Py_END_ALLOW_THREADS
        done = Py_NewRef(Py_None);
    }
    PyBuffer_Release(&body), PyBuffer_Release(&out);
    return done;
}

#if X86
/* Gopal, Ozturk, Guilford and others: Fast CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction (Intel,
   2009); the constants are its powers of x modulo the polynomial of zlib and Ethernet, bits reflected. For `size` of 64
   or more, and a multiple of 16; the CRC comes and goes inverted. */
#define FOLD(value, by, next)                                                                                          \
    _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00), _mm_clmulepi64_si128(value, by, 0x11)), next)
#define AT(place) _mm_loadu_si128((const __m128i *)(from + (place)))

__attribute__((target("sse4.1,pclmul"))) static uint32_t crc32_folded(const uint8_t *from, int64_t size, uint32_t crc)
{
    __m128i by = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4), low = _mm_setr_epi32(~0, 0, ~0, 0);
    __m128i four[4] = {_mm_xor_si128(AT(0), _mm_cvtsi32_si128((int)crc)), AT(16), AT(32), AT(48)};
    for (from += 64, size -= 64; size >= 64; from += 64, size -= 64)
        for (int i = 0; i < 4; i++)
            four[i] = FOLD(four[i], by, AT(16 * i));
    by = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    __m128i one = four[0];
    for (int i = 1; i < 4; i++)
        one = FOLD(one, by, four[i]);
    for (; size >= 16; from += 16, size -= 16)
        one = FOLD(one, by, AT(0));
    one = _mm_xor_si128(_mm_srli_si128(one, 8), _mm_clmulepi64_si128(one, by, 0x10));
    by = _mm_set_epi64x(0, 0x0163cd6124);
    one = _mm_xor_si128(_mm_srli_si128(one, 4), _mm_clmulepi64_si128(_mm_and_si128(one, low), by, 0x00));
    by = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(one, low), by, 0x10);
    one = _mm_xor_si128(one, _mm_clmulepi64_si128(_mm_and_si128(quotient, low), by, 0x00));
    return (uint32_t)_mm_extract_epi32(one, 1);
}
#endif

PyDoc_STRVAR(crc32_start_doc,
             "crc32_start(data)\n--\n\n"
             "(n, zlib.crc32(data[:n])): of as many of the first bytes as this is faster for than zlib; 0 of them where the\n"
             "processor cannot.");

static PyObject *crc32_start(PyObject *module, PyObject *args)
{
    Py_buffer data;
    Py_ssize_t size = 0;
    uint32_t crc = 0;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*", &data))
        return NULL;
#if X86
    if (data.len >= 64 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) {
        size = data.len / 16 * 16;
        Py_BEGIN_ALLOW_THREADS
        crc = ~crc32_folded(data.buf, size, ~crc);
        Py_END_ALLOW_THREADS
    }
#endif
    PyBuffer_Release(&data);
    return Py_BuildValue("nk", size, (unsigned long)crc);
}

static PyMethodDef methods[] = {{"crc32_start", crc32_start, METH_VARARGS, crc32_start_doc},
                                {"page", page, METH_VARARGS, page_doc},
                                {"list_levels", list_levels, METH_VARARGS, list_levels_doc},
                                {"join_bytes", join_bytes, METH_VARARGS, join_bytes_doc},
                                {NULL, NULL, 0, NULL}};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_pages", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__pages(void)
{
    return PyModuleDef_Init(&definition);
}
