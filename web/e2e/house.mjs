// A node of a test's own with a browser before it, signed in: for the rooms that one node is enough for.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

import { open } from "./browser.mjs";
import { binary, freePort, start } from "./node.mjs";

/**
 * Starts a node with its own data and ports, and a browser that is signed in to it. `cli` runs the command line against it, `post`
 * sends what a device sends, `close` ends all and removes it.
 */
export async function house(...args) {
  const dir = await mkdtemp(join(tmpdir(), "pollux-e2e-"));
  const [http, mqtt] = [await freePort(), await freePort()];
  const listen = ["--http", `127.0.0.1:${http}`, "--mqtt", `127.0.0.1:${mqtt}`, "--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0"];
  const node = await start(["serve", "--data", join(dir, "data"), ...listen, ...args]);
  const url = `http://127.0.0.1:${http}`;
  const key = (await readFile(join(dir, "data", "admin.key"), "utf8")).trim();
  const opened = await open(dir);
  await opened.page.goto(url);
  const form = opened.page.getByRole("form", { name: "Sign in" });
  await form.getByLabel("API key").first().fill(key);
  await form.getByRole("button", { name: "Sign in" }).click();
  await opened.page.getByRole("navigation", { name: "Rooms" }).waitFor();
  const cli = async (...words) => {
    const { stdout } = await promisify(execFile)(binary, words, { env: { ...process.env, POLLUX_URL: url, POLLUX_API_KEY: key }, maxBuffer: 1 << 24 });
    return stdout;
  };
  const post = async (path, body) => {
    const answer = await fetch(`${url}/v1/ingest/${path}`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    assert.ok(answer.status < 500, `${answer.status} ${text}`);
    return JSON.parse(text);
  };
  const close = async () => {
    await opened.browser.close();
    await node.stop();
    await rm(dir, { recursive: true, force: true });
  };
  return { ...opened, node, dir, url, key, cli, post, close };
}
