/**
 * `npm run package`: makes everything that is published, in dist/packages: the daemon and the SDK for npm, the Python client as a
 * wheel, the list of what is in them (CycloneDX), and their SHA-256. The same commit makes the same bytes.
 */
import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { packDaemon } from './daemon.ts'
import { buildDeb } from './deb.ts'
import { manifest, ROOT } from './folders.ts'
import { buildImage } from './image.ts'
import { billOfMaterials } from './materials.ts'
import { packSdk } from './sdk.ts'
import { buildWheel } from './wheel.ts'

/** Makes all packages. @returns their files */
export const makePackages = async (out: string): Promise<string[]> => {
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  const work = await mkdtemp(join(tmpdir(), 'deputy-packages-'))
  try {
    const files = [
      await packDaemon(join(work, 'daemon'), out),
      await packSdk(join(work, 'sdk'), out),
      await buildWheel(join(work, 'python'), out),
    ]
    const bom = join(out, `deputy-${manifest.version}.cdx.json`)
    await writeFile(bom, billOfMaterials())
    return [...files, bom]
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

const sumsOf = async (files: readonly string[]): Promise<string> => {
  const lines: string[] = []
  for (const file of files)
    lines.push(
      `${createHash('sha256')
        .update(await readFile(file))
        .digest('hex')}  ${basename(file)}\n`,
    )
  return lines.join('')
}

if (import.meta.main) {
  const out = process.argv.slice(2).find((word) => !word.startsWith('--')) ?? join(ROOT, 'dist/packages')
  const files = await makePackages(out)
  // It has a whole Node in it, and takes the longest: only where it is asked for.
  if (process.argv.includes('--deb')) {
    const work = await mkdtemp(join(tmpdir(), 'deputy-deb-'))
    try {
      files.push(await buildDeb(work, out))
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  if (process.argv.includes('--image')) {
    const work = await mkdtemp(join(tmpdir(), 'deputy-image-'))
    try {
      files.push(...(await buildImage(work, out)))
    } finally {
      await rm(work, { recursive: true, force: true })
    }
  }
  const sums = await sumsOf(files)
  const sumsFile = join(out, 'SHA256SUMS')
  await writeFile(sumsFile, sums)
  process.stdout.write(`${sums}Made:\n${[...files, sumsFile].map((file) => `  ${file}\n`).join('')}`)
}
