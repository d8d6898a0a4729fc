// Starts real processes for the console's test: a node with its own data and ports, and simulated devices.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));
export const binary = process.env.POLLUX_BIN ?? `${root}bin/pollux`;

/** How long a test waits for what must come, in seconds: on a machine that does much else all of it takes longer. */
export const patience = 120;

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/**
 * Starts `pollux ARGS` and waits for its `ready` line. `env` is added to the environment.
 * @returns {Promise<{line: string, output: () => string, stop: () => Promise<void>, kill: () => boolean}>}
 */
export async function start(args, env = {}) {
  const child = spawn(binary, args, { cwd: root, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  child.stdout.on("data", (data) => (out += data));
  child.stderr.on("data", (data) => (out += data));
  const exited = once(child, "exit");
  const stop = async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM");
    const late = setTimeout(() => child.kill("SIGKILL"), 15_000);
    await exited;
    clearTimeout(late);
  };
  const end = Date.now() + patience * 1000;
  for (;;) {
    const line = out.split("\n").find((l) => l.startsWith("ready"));
    if (line) return { line, output: () => out, stop, kill: () => child.kill("SIGKILL") };
    if (child.exitCode !== null) throw new Error(`pollux ${args[0]} ended with ${child.exitCode}:\n${out}`);
    if (Date.now() > end) {
      await stop();
      throw new Error(`pollux ${args[0]} was not ready within ${patience} s:\n${out}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Calls `check` until it gives something, or fails with what it was waiting for, and why `check` failed last. */
export async function until(what, check) {
  const end = Date.now() + patience * 1000;
  for (;;) {
    let cause;
    try {
      const value = await check();
      if (value) return value;
    } catch (error) {
      cause = error;
    }
    if (Date.now() > end) throw new Error(`not within ${patience} s: ${what}`, { cause });
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
