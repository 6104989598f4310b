/**
 * A container image without a container engine: an OCI archive out of Debian's libraries, the Node of this repository and the packed
 * daemon. It has no shell and no package manager. Two builds from one commit with the same versions of Debian's packages are alike.
 */
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { copyClosure } from './closure.ts'
import { makeDaemon, UNBUNDLED_PACKAGES } from './daemon.ts'
import { manifest, run, sourceEpoch } from './folders.ts'
import { billOfMaterials } from './materials.ts'

/** What Node needs of Debian, and what says which Debian it is. */
const DEBIAN_PACKAGES = ['base-files', 'gcc-12-base', 'libc6', 'libgcc-s1', 'libstdc++6', 'libatomic1'] as const
/** Ids of docs/deploy.md: they are written into file ownership outside of the container. */
const [DAEMON, CLIENTS] = [7880, 7881]
const LIB = 'usr/lib/deputy'

/** `deputy` by the Node of the image. */
const COMMAND = `#!/usr/bin/node\nimport('/${LIB}/dist/cli/main.js')\n`

const ACCOUNTS = {
  'etc/passwd': `root:x:0:0:root:/:/usr/sbin/nologin\ndeputy:x:${DAEMON}:${DAEMON}:Deputy:/var/lib/deputy:/usr/sbin/nologin\n`,
  'etc/group': `root:x:0:\ndeputy:x:${DAEMON}:\ndeputy-clients:x:${CLIENTS}:deputy\n`,
  'etc/nsswitch.conf': 'passwd: files\ngroup: files\nhosts: files dns\n',
} as const

/** Folders of the daemon: path, mode, owner and group. Named volumes take them over. */
const FOLDERS = [
  ['etc/deputy', 0o750, 0, DAEMON],
  ['var/lib/deputy', 0o700, DAEMON, DAEMON],
  ['var/lib/deputy-keys', 0o700, DAEMON, DAEMON],
  ['run/deputy', 0o711, DAEMON, DAEMON],
] as const

interface Material {
  readonly name: string
  readonly version: string
}

/** Unpacks Debian's packages. Their versions are left where scanners look for them. @throws Error where apt has none */
const debian = async (root: string, work: string): Promise<Material[]> => {
  const packages = join(work, 'debian')
  await mkdir(packages, { recursive: true })
  run('apt-get', ['download', '--quiet', ...DEBIAN_PACKAGES], { cwd: packages })
  const found: Material[] = []
  await mkdir(join(root, 'var/lib/dpkg/status.d'), { recursive: true })
  for (const file of (await readdir(packages)).sort()) {
    const path = join(packages, file)
    run('dpkg-deb', ['--extract', path, root])
    const field = (name: string): string => run('dpkg-deb', ['--field', path, name]).trim()
    found.push({ name: field('Package'), version: field('Version') })
    await writeFile(join(root, 'var/lib/dpkg/status.d', field('Package')), run('dpkg-deb', ['--field', path]))
  }
  for (const path of ['usr/share/doc', 'usr/share/man', 'usr/share/lintian', 'usr/share/locale']) {
    for (const name of await readdir(join(root, path)).catch(() => []))
      for (const inner of await readdir(join(root, path, name)).catch(() => []))
        // Licences stay.
        if (inner !== 'copyright') await rm(join(root, path, name, inner), { recursive: true })
  }
  return found
}

const baseLayer = async (root: string, work: string): Promise<Material[]> => {
  const materials = await debian(root, work)
  for (const [path, text] of Object.entries(ACCOUNTS)) await writeFile(join(root, path), text)
  // It comes with its mode, and no path may be there twice.
  await rm(join(root, 'tmp'), { recursive: true, force: true })
  return materials
}

const nodeLayer = async (root: string): Promise<void> => {
  await mkdir(join(root, 'usr/bin'), { recursive: true })
  await copyFile(process.execPath, join(root, 'usr/bin/node'))
  await chmod(join(root, 'usr/bin/node'), 0o755)
}

const daemonLayer = async (root: string, materials: readonly Material[]): Promise<string> => {
  const lib = join(root, LIB)
  await mkdir(lib, { recursive: true })
  await makeDaemon(lib)
  await copyClosure(UNBUNDLED_PACKAGES, lib)
  await mkdir(join(root, 'usr/bin'), { recursive: true })
  await writeFile(join(root, 'usr/bin/deputy'), COMMAND, { mode: 0o755 })
  const doc = join(root, 'usr/share/doc/deputy')
  await mkdir(doc, { recursive: true })
  await rename(join(lib, 'THIRD-PARTY.txt'), join(doc, 'copyright'))
  const bom = billOfMaterials([
    {
      type: 'application',
      name: 'node',
      version: process.versions.node,
      purl: `pkg:generic/node@${process.versions.node}`,
    },
    ...materials.map(({ name, version }) => ({
      type: 'library',
      name,
      version,
      purl: `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}`,
    })),
  ])
  await writeFile(join(doc, 'sbom.cdx.json'), bom)
  await symlink('/usr/share/doc/deputy/copyright', join(lib, 'THIRD-PARTY.txt'))
  return bom
}

/** A folder as a tar whose bytes depend on its content alone; everything is root's. */
const tarOf = (root: string, file: string, args: readonly string[] = []): void => {
  const owner = args.length > 0 ? args : ['--owner=0', '--group=0']
  run('tar', [
    '--sort=name',
    `--mtime=@${sourceEpoch()}`,
    '--numeric-owner',
    '--format=gnu',
    ...owner,
    args.length > 0 ? '--append' : '--create',
    `--file=${file}`,
    ...(args.length > 0 ? [] : ['-C', root, '.']),
  ])
}

/** The folders of the daemon come last into the tar of the base: who builds may be no root, and still gives them away. */
const addFolders = async (work: string, file: string): Promise<void> => {
  const root = join(work, 'folders')
  for (const [path, mode, owner, group] of FOLDERS) {
    await mkdir(join(root, path), { recursive: true })
    await chmod(join(root, path), mode)
    tarOf(root, file, [`--owner=${owner}`, `--group=${group}`, '--no-recursion', '-C', root, `./${path}`])
  }
  await mkdir(join(root, 'tmp'), { recursive: true })
  await chmod(join(root, 'tmp'), 0o1777)
  tarOf(root, file, ['--owner=0', '--group=0', '--no-recursion', '-C', root, './tmp'])
}

interface Blob {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

/** Writes into an OCI layout (https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md). */
const writeBlob = async (layout: string, mediaType: string, bytes: Uint8Array): Promise<Blob> => {
  const digest = sha256(bytes)
  await writeFile(join(layout, 'blobs/sha256', digest.slice('sha256:'.length)), bytes)
  return { mediaType, digest, size: bytes.length }
}

const HEALTH =
  "require('node:http').get({socketPath: process.env.DEPUTY_SOCKET, path: '/healthz', timeout: 2000}, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1)).on('timeout', () => process.exit(1)).on('error', () => process.exit(1))"

const SECOND_NS = 1_000_000_000

const configuration = (architecture: string, created: string, diffs: readonly string[]): object => ({
  created,
  architecture,
  os: 'linux',
  config: {
    User: String(DAEMON),
    Env: ['PATH=/usr/bin', 'NODE_ENV=production', 'DEPUTY_HOME=/etc/deputy', 'DEPUTY_SOCKET=/run/deputy/deputy.sock'],
    Entrypoint: ['node', `/${LIB}/dist/cli/main.js`],
    Cmd: ['serve'],
    WorkingDir: `/${LIB}`,
    Volumes: { '/var/lib/deputy': {}, '/run/deputy': {} },
    StopSignal: 'SIGTERM',
    // Docker's; engines that do not know it leave it out.
    Healthcheck: { Test: ['CMD', 'node', '-e', HEALTH], Interval: 10 * SECOND_NS, Timeout: 3 * SECOND_NS, Retries: 3 },
    Labels: labels(created),
  },
  rootfs: { type: 'layers', diff_ids: diffs },
  history: ['Debian', 'Node', 'Deputy'].map((what) => ({ created, created_by: `npm run package -- --image: ${what}` })),
})

/** https://github.com/opencontainers/image-spec/blob/v1.1.0/annotations.md */
const labels = (created: string): Record<string, string> => ({
  'org.opencontainers.image.title': 'deputy',
  'org.opencontainers.image.description': manifest.description,
  'org.opencontainers.image.version': manifest.version,
  'org.opencontainers.image.licenses': manifest.license,
  'org.opencontainers.image.revision': revision(),
  'org.opencontainers.image.created': created,
})

const revision = (): string => process.env['DEPUTY_REVISION'] ?? run('git', ['rev-parse', 'HEAD']).trim()

const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' }

/** The image of this machine's architecture. @returns the archive and the list of what is in it */
export const buildImage = async (work: string, out: string): Promise<string[]> => {
  const architecture = ARCHITECTURES[process.arch]
  if (architecture === undefined) throw new Error(`no image is made for ${process.arch}`)
  const roots = ['base', 'node', 'daemon'].map((name) => join(work, name)) as [string, string, string]
  for (const root of roots) await mkdir(root, { recursive: true })
  const materials = await baseLayer(roots[0], work)
  await nodeLayer(roots[1])
  const bom = await daemonLayer(roots[2], materials)
  const layout = join(work, 'layout')
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true })
  const layers: Blob[] = []
  const diffs: string[] = []
  for (const root of roots) {
    run('chmod', ['-R', 'u=rwX,go=rX', root])
    const tar = `${root}.tar`
    tarOf(root, tar)
    if (root === roots[0]) await addFolders(work, tar)
    const bytes = await readFile(tar)
    diffs.push(sha256(bytes))
    layers.push(await writeBlob(layout, 'application/vnd.oci.image.layer.v1.tar+gzip', gzipSync(bytes, { level: 9 })))
  }
  const created = new Date(Number(sourceEpoch()) * 1000).toISOString()
  const json = (value: object): Buffer => Buffer.from(JSON.stringify(value))
  const config = await writeBlob(
    layout,
    'application/vnd.oci.image.config.v1+json',
    json(configuration(architecture, created, diffs)),
  )
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const image = await writeBlob(layout, mediaType, json({ schemaVersion: 2, mediaType, config, layers }))
  const index = {
    ...image,
    platform: { architecture, os: 'linux' },
    annotations: { 'org.opencontainers.image.ref.name': `deputy:${manifest.version}` },
  }
  await writeFile(join(layout, 'index.json'), json({ schemaVersion: 2, manifests: [index] }))
  await writeFile(join(layout, 'oci-layout'), json({ imageLayoutVersion: '1.0.0' }))
  const file = join(out, `deputy-${manifest.version}-${architecture}.oci.tar`)
  run('chmod', ['-R', 'u=rwX,go=rX', layout])
  tarOf(layout, file)
  const list = join(out, `deputy-${manifest.version}-${architecture}.oci.cdx.json`)
  await writeFile(list, bom)
  return [file, list]
}
