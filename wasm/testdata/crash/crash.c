// A guest that crashes somewhere below its export, for the tests of what a crash shows.
typedef unsigned int u32;

static volatile u32 total;

__attribute__((noinline)) static u32 share(u32 whole, u32 parts) {
  total += whole;
  for (u32 i = 0; i < 3; i++) total ^= i;
  return whole / parts;  // innermost
}

__attribute__((noinline)) static u32 deeper(u32 n) {
  __builtin_memset((void *)4096, (int)n, n % 256);
  u32 got = share(100, n);  // next
  return got + total;
}

__attribute__((export_name("crash"))) u32 crash(u32 n) {
  return deeper(n) + 1;  // outermost
}
