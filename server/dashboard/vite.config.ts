/** Builds the page into the Python package, with a .gz beside each file; relative, so that any prefix serves it. */
import { gzipSync } from 'node:zlib';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

const SERVICE = process.env['TALLYBOARD_URL'] ?? 'http://127.0.0.1:6007';
/** What the development server hands on to a running service. */
const SERVED = ['api', 'tensorboard', 'docs', 'docs-assets', 'openapi.json', 'login', 'logout', 'healthz'];

function gzipped(): Plugin {
  return {
    name: 'gzipped',
    apply: 'build',
    enforce: 'post',
    generateBundle(_, bundle) {
      for (const file of Object.values(bundle)) {
        const source = file.type === 'chunk' ? file.code : file.source;
        const fileName = `${file.fileName}.gz`;
        this.emitFile({ type: 'asset', fileName, source: gzipSync(source, { level: 9 }) });
      }
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [svelte(), gzipped()],
  build: {
    outDir: '../tallyboard_server/static',
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: URLs would need a place in the CSP
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    target: 'es2022',
  },
  server: {
    proxy: Object.fromEntries(SERVED.map((path) => [`/${path}`, { target: SERVICE, changeOrigin: false }])),
  },
  test: { include: ['tests/**/*.test.ts'], environment: 'node' },
});
