import { keyRotationSchema } from './contract.ts'
import type { AdminContext } from './dependencies.ts'
import { parse, type AdminEndpoints } from './endpoint.ts'

/** The daemon itself: its state, its configuration, its keys. */
export const daemonEndpoints = (context: AdminContext): AdminEndpoints => ({
  'GET /status': () => context.status(),
  'POST /reload': () => context.reload(),
  'POST /keys/rotate': async (request) => {
    const { keys } = parse(keyRotationSchema, request.body)
    const result = await context.rotateKeys(keys)
    await request.record({ event: 'key.rotate', detail: { keys, ...result } })
    return { keys, ...result }
  },
})
