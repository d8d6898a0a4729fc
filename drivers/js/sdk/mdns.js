  // Services by multicast DNS (RFC 6762, RFC 6763), for scans.

  const A = 1, PTR = 12, TXT = 16, SRV = 33;
  const MOST_SERVICES = 64;
  class Unreadable extends Error {}

  // nameAt reads a name and gives its labels, and where it ends. A pointer leads back only, so that none goes round.
  const nameAt = (b, at) => {
    const labels = [];
    for (let p = at, from = at, end = -1, size = 0; ;) {
      const n = b[p];
      if (n === 0) return [labels, end < 0 ? p + 1 : end];
      if (n >= 192) {
        const to = (n & 63) << 8 | b[p + 1];
        if (to >= from || p + 1 >= b.length) throw new Unreadable();
        if (end < 0) end = p + 2;
        p = from = to;
        continue;
      }
      size += n + 1;
      if (!(n <= 63) || size > 254 || p + 1 + n >= b.length) throw new Unreadable();
      labels.push(native(DECODE, b.subarray(p + 1, p + 1 + n)));
      p += n + 1;
    }
  };
  const keyOf = (labels) => labels.join('.').toLowerCase();

  // attributes reads NAME=VALUE; of several with one name the first counts.
  const attributes = (b) => {
    const all = {};
    for (let p = 0; p < b.length; p += b[p] + 1) {
      const [, name, value = ''] = /^([^=]+)=?(.*)$/s.exec(native(DECODE, b.subarray(p + 1, p + 1 + b[p]))) ?? [];
      if (name && !Object.hasOwn(all, name.toLowerCase())) all[name.toLowerCase()] = value;
    }
    return all;
  };

  // recordsOf calls take(name, type, time to live, where the data begins, the data) for each record that can be read.
  const recordsOf = (b, take) => {
    const two = (at) => b[at] << 8 | b[at + 1];
    let p = 12;
    try {
      for (let n = two(4); n > 0; n--) p = nameAt(b, p)[1] + 4;
      for (let n = two(6) + two(8) + two(10); n > 0; n--) {
        const [name, at] = nameAt(b, p);
        const length = two(at + 8);
        if (at + 10 + length > b.length) return;
        take(name, two(at), two(at + 4) || two(at + 6), at + 10, b.subarray(at + 10, at + 10 + length));
        p = at + 10 + length;
      }
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
    }
  };

  const mdns = Object.freeze({
    /** A message that asks who has services of the types, such as "_http._tcp". */
    query(...types) {
      const out = [0, 0, 0, 0, 0, types.length, 0, 0, 0, 0, 0, 0];
      for (const type of types) {
        for (const label of `${type}.local`.split('.')) {
          const bytes = native(ENCODE, label);
          if (bytes.length < 1 || bytes.length > 63) throw new RangeError(`mdns.query: ${show(type)} is no type such as "_http._tcp"`);
          out.push(bytes.length, ...bytes);
        }
        out.push(0, 0, PTR, 0, 1);
      }
      return Uint8Array.from(out);
    },
    /** The services that an answer tells of; none where it is no answer, or cannot be read. */
    services(message) {
      if (!isBytes(message)) throw new TypeError(`mdns.services: ${show(message)} is no Uint8Array`);
      const found = [], hosts = {}, texts = {}, addresses = {};
      if (message.length < 12 || !(message[2] & 128)) return found;
      recordsOf(message, (name, type, ttl, at, data) => {
        const key = keyOf(name);
        if (type === PTR && ttl && found.length < MOST_SERVICES) { // without a time to live it takes leave
          const target = nameAt(message, at)[0];
          if (target.length > name.length && keyOf(target.slice(-name.length)) === key && key.endsWith('.local')) {
            found.push({ key: keyOf(target), type: name.slice(0, -1).join('.'), instance: target.slice(0, -name.length).join('.') });
          }
        } else if (type === SRV && data.length > 6) hosts[key] = { host: nameAt(message, at + 6)[0].join('.'), port: data[4] << 8 | data[5] };
        else if (type === TXT) texts[key] = attributes(data);
        else if (type === A && data.length === 4) addresses[key] ??= data.join('.');
      });
      return found.map(({ key, ...service }) => {
        const { host, port } = own(hosts, key) ?? {};
        return { ...service, host, port, address: host === undefined ? undefined : own(addresses, host.toLowerCase()), txt: own(texts, key) ?? {} };
      });
    },
  });
