// A driver for a lamp that talks in lines over TCP, in C, made of nothing but drivers/ABI.md. It answers "POWER?", "POWER ON"
// and "POWER OFF" with "POWER=ON" or "POWER=OFF", or with "ERROR" and a reason, and says "POWER=..." by itself as well.
//
//   clang --target=wasm32 -O2 -nostdlib -mbulk-memory -Wl,--no-entry -o lamp.wasm lamp.c
//   pollux driver pack lamp.wasm --manifest driver.json

typedef unsigned char u8;
typedef unsigned long size;

#define TWIN1(name) __attribute__((import_module("twin1"), import_name(#name)))
TWIN1(input) void input(void *to);
TWIN1(output) void output(const void *from, size n);
TWIN1(reply) void reply(void *to);
TWIN1(send) int send(const void *frame, size n);
TWIN1(state_set) int state_set(const void *json, size n);
TWIN1(schedule) int schedule(const void *json, size n);
TWIN1(setting) int setting(const void *name, size n);
TWIN1(log) int log_line(const void *line, size n);

enum { CONNECTED = 2, DISCONNECTED = 3, RECEIVED = 4, COMMAND = 5, TIMER = 6, ANSWER = 11, PENDING = -1 };

static u8 in[4096]; // one call's input; longer ones are none of this device's
static char out[512];
static size end;

static void put(const char *text) {
  while (*text && end < sizeof out) out[end++] = *text++;
}

// Puts text from outside into a JSON string: what could end it, or is no ASCII, becomes a question mark.
static void put_bytes(const u8 *b, size n) {
  for (size i = 0; i < n && end < sizeof out - 64; i++) out[end++] = b[i] < 32 || b[i] > 126 || b[i] == '"' || b[i] == '\\' ? '?' : b[i];
}

static int is(const u8 *b, size n, const char *text) {
  size i = 0;
  while (i < n && text[i] && b[i] == (u8)text[i]) i++;
  return i == n && !text[i];
}

// Finds a member of the JSON object in `in`, at its top, and gives the first byte of its value.
static const u8 *member(size n, const char *name) {
  int depth = 0, key = 0;
  for (size i = 0; i < n; i++) {
    if (in[i] == '"') {
      size from = ++i;
      while (i < n && in[i] != '"') i += in[i] == '\\' ? 2 : 1;
      if (i >= n) return 0;
      int found = key && depth == 1 && is(in + from, i - from, name);
      key = 0;
      if (!found) continue;
      for (i++; i < n && (in[i] == ':' || in[i] == ' '); i++) {}
      return i < n ? in + i : 0;
    }
    if (in[i] == '{' || in[i] == '[') depth++;
    if (in[i] == '}' || in[i] == ']') depth--;
    if (in[i] == '{' || in[i] == ',') key = 1;
  }
  return 0;
}

static int starts(const u8 *b, const char *text) { // b ends with a zero
  while (b && *text && *b == (u8)*text) b++, text++;
  return b && !*text;
}

static int refuse(const char *code, const u8 *why, size n) {
  end = 0;
  put("{\"code\":"), put(code), put(",\"message\":\""), put_bytes(why, n), put("\"}");
  output(out, end);
  return 1;
}

static int said(const char *line, size n) { return send(line, n) < 0 ? refuse("3", (const u8 *)"not connected", 13) : 0; }

static int connected(void) {
  end = 0;
  put("{\"name\":\"poll\",\"every\":");
  int n = setting("poll_s", 6);
  if (n <= 0 || n > 8) put("30");
  else reply(out + end), end += n;
  put("000}");
  if (schedule(out, end) < 0) return refuse("1", (const u8 *)"no timer", 8);
  return said("POWER?\r\n", 8);
}

static int received(size n) {
  int on = is(in, n, "POWER=ON");
  end = 0;
  if (on || is(in, n, "POWER=OFF")) {
    put(on ? "{\"set\":{\"power\":true}}" : "{\"set\":{\"power\":false}}");
    return state_set(out, end) < 0;
  }
  put("\2not understood: "), put_bytes(in, n);
  log_line(out, end);
  return 0;
}

static int command(size n) {
  const u8 *property = member(n, "property"), *value = member(n, "value");
  if (!starts(property, "\"power\"")) return refuse("100", (const u8 *)"there is no such command", 24);
  int refused = starts(value, "true") ? said("POWER ON\r\n", 10) : said("POWER OFF\r\n", 11);
  return refused ? refused : PENDING;
}

__attribute__((export_name("drv_handle"))) int drv_handle(int event, int len) {
  size n = len;
  if (n >= sizeof in) return 0;
  input(in);
  in[n] = 0;
  switch (event) {
  case CONNECTED: return connected();
  case DISCONNECTED: return schedule("{\"name\":\"poll\",\"cancel\":true}", 29) < 0;
  case TIMER: return said("POWER?\r\n", 8);
  case RECEIVED: return received(n);
  case ANSWER: return starts(in, "ERROR ") ? refuse("2", in + 6, n - 6) : received(n);
  case COMMAND: return command(n);
  }
  return 0;
}
