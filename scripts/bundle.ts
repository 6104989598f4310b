/** Bundles the CLI and the daemon, so that a start reads tens of files instead of two thousand. Part of `npm run build`. */
import { rm } from 'node:fs/promises'
import http from 'node:http'
import { join, resolve } from 'node:path'
import { rolldown, type Plugin } from 'rolldown'

const ROOT = resolve(import.meta.dirname, '..')

/** Two below the package's folder, as `src/cli` is: what the CLI looks for from there is found. */
const BUNDLE = join(ROOT, 'dist/cli')

/** The CLI as it ships. */
export const BUNDLED_CLI = join(BUNDLE, 'main.js')

/** What runs by itself: the CLI, the threads, and the process that becomes a command of `deputy exec`. */
const ENTRIES = {
  main: 'src/cli/main.ts',
  worker: 'src/foundation/store/sqlite/worker.ts',
  'walk-thread': 'src/foundation/audit/verify/walk-thread.ts',
  'writer-thread': 'src/foundation/audit/segments/writer-thread.ts',
  'index-thread': 'src/foundation/audit/segments/index/index-thread.ts',
  'reader-thread': 'src/config/reader-thread.ts',
  launcher: 'src/cli/exec/launcher.ts',
}

/** Daemons with a fault or a clock of a test's, which start as quickly as what ships. As far below the package's folder. */
export const TEST_PROGRAMS = join(ROOT, 'node_modules/.test-programs')

const TEST_ENTRIES = {
  'faulty-daemon': 'test/support/faulty-daemon.ts',
  'clock-daemon': 'test/support/clock-daemon.ts',
}

/** Native, WebAssembly or JSON beside their JavaScript: they find their own files. The last is loaded where there is a Vault. */
export const UNBUNDLED = [
  'koffi',
  '@cedar-policy/cedar-wasm/nodejs',
  '@seriousme/openapi-schema-validator',
  'node-vault',
]

/**
 * An `import` of `node:http` reads every one of its exports, and the one for WebSockets loads the HTTP client that Node
 * has inside: 45 ms of a start for something that no part of Deputy uses. What is required is loaded without it.
 */
const httpWithoutWebSocket: Plugin = {
  name: 'http-without-websocket',
  resolveId(source, _importer, { kind }) {
    return kind === 'import-statement' && source === 'node:http' ? '\0node-http' : null
  },
  load(id) {
    if (id !== '\0node-http') return null
    const names = Object.keys(http).filter(
      (name) => typeof Object.getOwnPropertyDescriptor(http, name)?.get !== 'function',
    )
    return `const http = process.getBuiltinModule('node:http')
export default http
export const { ${names.join(', ')} } = http`
  },
}

const write = async (folder: string, input: Readonly<Record<string, string>>): Promise<void> => {
  await rm(folder, { recursive: true, force: true })
  const build = await rolldown({
    cwd: ROOT,
    input,
    platform: 'node',
    external: UNBUNDLED,
    plugins: [httpWithoutWebSocket],
    onLog: (level, log) => {
      if (level === 'warn') throw new Error(log.message)
    },
  })
  await build.write({ dir: folder, format: 'esm', sourcemap: true, minify: false })
  await build.close()
}

/** Writes the bundle anew. @throws Error what rolldown says of a source that does not bundle */
export const bundle = (folder = BUNDLE): Promise<void> => write(folder, ENTRIES)

/** Writes what only tests start; it is no part of what ships. */
export const bundleTestPrograms = (): Promise<void> => write(TEST_PROGRAMS, { ...ENTRIES, ...TEST_ENTRIES })

// Another folder, for those who install: `node scripts/bundle.ts FOLDER/dist/cli`.
if (import.meta.main) await bundle(process.argv[2])
