/** The Python client as a wheel. */
import { existsSync } from 'node:fs'
import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ROOT, run, sourceEpoch } from './folders.ts'

/** Has the packages python3-setuptools and python3-wheel where Debian's are installed. */
const DEBIAN_PYTHON = '/usr/bin/python3'

/** By the tools of Debian, without the network: setuptools is its own build back end (PEP 517). */
const BUILD = `import json, sys
from setuptools import build_meta
print(json.dumps({"wheel": build_meta.build_wheel(sys.argv[1])}))`

/** @returns the wheel. @throws Error where python3, python3-setuptools or python3-wheel is missing */
export const buildWheel = async (folder: string, out: string): Promise<string> => {
  await mkdir(folder, { recursive: true })
  await cp(join(ROOT, 'sdk/python'), folder, {
    recursive: true,
    filter: (path) => !/__pycache__|\.egg-info|\/build(\/|$)/.test(path),
  })
  const python = existsSync(DEBIAN_PYTHON) ? DEBIAN_PYTHON : 'python3'
  const said = run(python, ['-c', BUILD, out], {
    cwd: folder,
    environment: { SOURCE_DATE_EPOCH: sourceEpoch(), PYTHONDONTWRITEBYTECODE: '1', PYTHONHASHSEED: '0' },
  })
  const { wheel } = z.looseObject({ wheel: z.string() }).parse(JSON.parse(said.trimEnd().split('\n').at(-1)!))
  return join(out, wheel)
}
