import { z } from 'zod'

export const tlsSchema = z
  .union([z.boolean(), z.strictObject({ ca: z.string().min(1) })])
  .default(true)
  .describe('TLS with the certificates of the system or of a PEM file; false only for a server on this machine.')
