import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// A node to develop against: POLLUX_URL=http://127.0.0.1:8080 npm run dev
const node = process.env.POLLUX_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "dist",
    emptyOutDir: false, // dist/README is kept; `prebuild` empties the rest
    target: "es2022",
    chunkSizeWarningLimit: 900,
    reportCompressedSize: false,
    assetsInlineLimit: 0,
    // Ours changes more often than what it stands on.
    rolldownOptions: { output: { codeSplitting: { groups: [{ name: "libraries", test: /node_modules/ }] } } },
  },
  test: { include: ["src/**/*.test.ts"] },
  server: {
    proxy: Object.fromEntries(["/pollux.v1.", "/victoria", "/login", "/logout"].map((path) => [path, { target: node }])),
  },
});
