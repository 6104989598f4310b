import { open } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createFile, makeFolders, syncFolder } from '#foundation/files'
import type { SegmentArchive } from './segments.ts'

/**
 * Segments in a folder, such as one on another machine's disk that is mounted here. Files have mode 0600, folders 0700.
 */
export const createSegmentFolder = (folder: string): SegmentArchive => ({
  async put(name, content) {
    const path = join(folder, name)
    if ((await makeFolders(dirname(path))) !== undefined) await syncFolder(folder)
    return createFile(path, content)
  },
  async get(name, longest) {
    const file = await open(join(folder, name), 'r').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    try {
      if (file === undefined) return undefined
      if ((await file.stat()).size > longest) throw new Error(`${join(folder, name)} is longer than a segment can be`)
      return await file.readFile()
    } finally {
      await file?.close()
    }
  },
  close: () => Promise.resolve(),
})
