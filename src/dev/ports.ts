import { createServer } from 'node:net'
import { LOOPBACK } from './facts.ts'
import { DevError } from './error.ts'
import { PORT_NAMES, type Ports } from './state.ts'

/** @param port 0: one of the system's choice. @returns the port, free a moment ago; undefined when it is taken */
const probe = (port: number): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' || error.code === 'EACCES') resolve(undefined)
      else reject(error)
    })
    server.listen(port, LOOPBACK, () => {
      const { port: found } = server.address() as { port: number }
      server.close(() => {
        resolve(found)
      })
    })
  })

export interface PortWish {
  /** The first of five in a row. */
  readonly first?: number
  /** Ports of programs that run already. */
  readonly given?: Partial<Ports>
  /** Those of the last start in this folder, or of a caller's choice. */
  readonly before?: Partial<Ports>
}

/**
 * @returns the ports, and those of the last start that are taken now
 * @throws DevError when a port of `--port` is taken
 */
export const choosePorts = async ({
  first,
  given = {},
  before = {},
}: PortWish): Promise<{ ports: Ports; taken: number[] }> => {
  const ports: Record<string, number> = {}
  const taken: number[] = []
  for (const [at, name] of PORT_NAMES.entries()) {
    const fixed = given[name]
    if (fixed !== undefined) {
      ports[name] = fixed
      continue
    }
    const wished = first === undefined ? before[name] : first + at
    const found = wished === undefined ? undefined : await probe(wished)
    if (found === undefined && wished !== undefined) {
      if (first !== undefined)
        throw new DevError(
          `Port ${wished} is taken; --port ${first} needs ${first} to ${first + PORT_NAMES.length - 1}.`,
          'Give another --port, or leave it out: the system then chooses free ports.',
        )
      taken.push(wished)
    }
    let port = found
    while (port === undefined || (port !== found && Object.values(ports).includes(port))) port = await probe(0)
    ports[name] = port
  }
  return { ports: ports as unknown as Ports, taken }
}
