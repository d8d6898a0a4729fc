// A freestanding guest for the tests of the metering: every kind of loop, call and way out that a C compiler makes.
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
#define EXPORT(name) __attribute__((export_name(name)))

static u8 input[4096], output[4096], scratch[1 << 20];
static u64 state;

static u32 next(void) {
  state = state * 6364136223846793005ull + 1442695040888963407ull;
  return (u32)(state >> 33);
}

EXPORT("alloc") u8 *alloc(u32 n) { return n <= sizeof input ? input : 0; }

EXPORT("tight") u32 tight(u32 n) {
  u32 x = 1;
  for (u32 i = 0; i < n; i++) x = (x * 1664525u + 1013904223u) ^ i;
  return x;
}

EXPORT("recurse") u32 recurse(u32 n) {
  volatile u32 frame[16];
  frame[n & 15] = n;
  if (n == 0) return 0;
  return recurse(n - 1) + frame[n & 15] - n + 1;
}

static u32 ackermann(u32 m, u32 n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

static u32 add(u32 a, u32 b) { return a + b; }
static u32 sub(u32 a, u32 b) { return a - b; }
static u32 divide(u32 a, u32 b) { return b ? a / b : 7; }
static u32 pick(u32 a, u32 b) {
  for (u32 i = 0; i < 8; i++)
    if ((a >> i) & 1 && (b >> i) & 1) return i;
  return 9;
}
static u32 (*const table[])(u32, u32) = {add, sub, divide, pick};

static void sort(u32 *v, int lo, int hi) {
  while (lo < hi) {
    u32 pivot = v[(lo + hi) / 2];
    int i = lo, j = hi;
    while (i <= j) {
      while (v[i] < pivot) i++;
      while (v[j] > pivot) j--;
      if (i <= j) {
        u32 t = v[i];
        v[i++] = v[j];
        v[j--] = t;
      }
    }
    if (j - lo < hi - i) {
      sort(v, lo, j);
      lo = i;
    } else {
      sort(v, i, hi);
      hi = j;
    }
  }
}

static u64 floats(u32 n) {
  double sum = 0.5;
  for (u32 i = 1; i <= n; i++) {
    sum += __builtin_sqrt((double)(next() % 1000)) / i;
    if (sum > 1e6) return (u64)sum;
  }
  return (u64)(sum * 1000);
}

static u64 bytes(u32 n) {
  u32 size = n % (sizeof scratch / 2);
  __builtin_memset(scratch, (u8)n, size);
  __builtin_memmove(scratch + n % 700, scratch, size);
  __builtin_memmove(scratch, scratch + n % 300, size);
  u64 sum = 0;
  for (u32 i = 0; i < size; i += 97) sum = sum * 31 + scratch[i];
  return sum;
}

// mix runs n steps that seed draws, and gives a digest of what they gave. Step 15 traps now and then.
EXPORT("mix") u64 mix(u32 seed, u32 n) {
  u64 sum = seed;
  state = seed;
  for (u32 step = 0; step < n; step++) {
    u32 v = next();
    switch (v % 17) {
      case 0: sum += ackermann(2, v % 20); break;
      case 1: sum ^= table[(v >> 8) & 3](v, next()); break;
      case 2: sum += floats(v % 50); break;
      case 3: sum += bytes(next()); break;
      case 4: {
        u32 *list = (u32 *)scratch;
        for (int i = 0; i < 200; i++) list[i] = next();
        sort(list, 0, 199);
        sum += list[v % 200];
        break;
      }
      case 5: continue;
      case 6: sum = sum / (v | 1) + sum % 1000003; break;
      case 7: sum += tight(v % 1000); break;
      case 8: sum += recurse(v % 200); break;
      case 9:
        for (u32 i = 0; i < 10; i++) {
          for (u32 j = 0; j < 10; j++)
            if ((i * j + v) % 31 == 0) goto out;
          sum += i;
        }
      out:
        break;
      case 15:
        if (v % 41 == 0) __builtin_trap();
        break;
      case 16: sum += (u64)__builtin_wasm_memory_size(0); break;
      default: sum = (sum << 7 | sum >> 57) + v;
    }
  }
  return sum;
}

static u32 find(const u8 *p, u32 n, const char *key, u32 size, u32 *length) {
  for (u32 i = 0; i + size + 3 < n; i++) {
    if (p[i] != '"') continue;
    u32 j = 0;
    while (j < size && p[i + 1 + j] == (u8)key[j]) j++;
    if (j < size || p[i + 1 + size] != '"' || p[i + 2 + size] != ':') continue;
    u32 from = i + 3 + size, to = from;
    if (p[from] == '"') {
      for (to++; to < n && p[to] != '"'; to++)
        if (p[to] == '\\') to++;
      to++;
    } else {
      while (to < n && p[to] != ',' && p[to] != '}') to++;
    }
    *length = to - from;
    return from;
  }
  *length = 0;
  return 0;
}

static u32 put(u32 at, const u8 *p, u32 n) {
  for (u32 i = 0; i < n; i++) output[at + i] = p[i];
  return at + n;
}

#define TEXT(s) at = put(at, (const u8 *)s, sizeof(s) - 1)
#define MEMBER(k) from = find(p, n, k, sizeof(k) - 1, &length), at = put(at, p + from, length)

// handle answers a JSON request of some 200 bytes with another document: (where << 32) | length.
EXPORT("handle") u64 handle(u8 *p, u32 n) {
  u32 at = 0, length, from = find(p, n, "level", 5, &length), level = 0;
  for (u32 i = 0; i < length; i++) level = level * 10 + p[from + i] - '0';
  level++;
  TEXT("{\"ok\":true,\"id\":");
  MEMBER("id");
  TEXT(",\"zone\":");
  MEMBER("zone");
  TEXT(",\"level\":");
  u8 digits[12];
  u32 k = 0;
  do digits[k++] = '0' + level % 10, level /= 10;
  while (level);
  while (k) output[at++] = digits[--k];
  TEXT(",\"source\":");
  MEMBER("source");
  TEXT(",\"trace\":");
  MEMBER("trace");
  TEXT("}");
  return (u64)(u32)output << 32 | at;
}
