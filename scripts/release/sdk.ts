/** The TypeScript SDK as a package without dependencies. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { COMMON, manifest, npmPack, ROOT, run } from './folders.ts'

/** The oldest Node on which the SDK runs; the daemon needs a newer one. */
const NODE = '>=20'

const entry = (path: string) => ({ types: `./${path}.d.ts`, default: `./${path}.js` })

const PACKAGE = {
  name: 'deputy-sdk',
  ...COMMON,
  description: 'How an MCP server on this machine obtains scoped, short-lived credentials from Deputy',
  engines: { node: NODE },
  sideEffects: false,
  exports: {
    '.': entry('index'),
    './mcp': entry('mcp/index'),
    './mcp-v1': entry('mcp/v1'),
    './package.json': './package.json',
  },
  peerDependencies: manifest.peerDependencies,
  peerDependenciesMeta: manifest.peerDependenciesMeta,
}

/** The comment that names a source map which does not ship. */
const MAP = /\n\/\/# sourceMappingURL=\S+\n?$/

/** @returns the packed file */
export const packSdk = async (folder: string, out: string): Promise<string> => {
  await mkdir(folder, { recursive: true })
  run(process.execPath, [
    join(ROOT, 'node_modules/typescript/bin/tsc'),
    '-p',
    'tsconfig.build.json',
    '--outDir',
    folder,
  ])
  // `src/sdk` alone is compiled, and its folder is the package.
  for (const name of await readdir(join(folder, 'sdk')))
    await cp(join(folder, 'sdk', name), join(folder, name), { recursive: true })
  await rm(join(folder, 'sdk'), { recursive: true })
  for (const name of await readdir(folder, { recursive: true })) {
    const path = join(folder, name)
    if (name.endsWith('.map')) await rm(path)
    else if (name.endsWith('.js')) await writeFile(path, (await readFile(path, 'utf8')).replace(MAP, '\n'))
  }
  await rm(join(folder, 'mcp/hosting.js'))
  await rm(join(folder, 'mcp/hosting.d.ts'))
  await writeFile(join(folder, 'package.json'), `${JSON.stringify(PACKAGE, null, 2)}\n`)
  await cp(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'))
  await cp(join(ROOT, 'sdk/typescript/README.md'), join(folder, 'README.md'))
  return npmPack(folder, out)
}
