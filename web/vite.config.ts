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
    // Ours changes more often than what it stands on; the code editor is fetched by those who write, what
    // reads files by those who import.
    rolldownOptions: {
      output: {
        codeSplitting: {
          groups: [
            { name: "editor", test: /node_modules\/(@codemirror|@lezer|@marijn|crelt|style-mod|w3c-keyname)\//, priority: 2 },
          { name: "files", test: /node_modules\/(yaml|papaparse)\//, priority: 2 },
            { name: "libraries", test: /node_modules/, priority: 1 },
          ],
        },
      },
    },
  },
  test: { include: ["src/**/*.test.ts"] },
  server: {
    proxy: Object.fromEntries(["/pollux.v1.", "/victoria", "/login", "/logout"].map((path) => [path, { target: node }])),
  },
});
