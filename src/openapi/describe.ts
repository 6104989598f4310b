import type { ApiTool, JsonSchema } from './tool.ts'

/** A tool as clients see it (https://modelcontextprotocol.io/specification/2025-11-25/server/tools#tool). */
export interface ToolDescription {
  readonly name: string
  readonly title?: string
  readonly description: string
  readonly inputSchema: JsonSchema
  readonly outputSchema?: JsonSchema
  readonly annotations: {
    readonly readOnlyHint: boolean
    readonly destructiveHint: boolean
    readonly idempotentHint: boolean
    readonly openWorldHint: boolean
  }
}

const described = new WeakMap<ApiTool, ToolDescription>()

/** The description of a tool; made once. */
export const describeTool = (tool: ApiTool): ToolDescription => {
  const known = described.get(tool)
  if (known !== undefined) return known
  const { name, title, description, inputSchema, outputSchema, effects } = tool
  const made: ToolDescription = {
    name,
    ...(title === undefined ? {} : { title }),
    description,
    inputSchema,
    ...(outputSchema === undefined ? {} : { outputSchema }),
    annotations: {
      readOnlyHint: effects.readOnly,
      destructiveHint: effects.destructive,
      idempotentHint: effects.idempotent,
      openWorldHint: true,
    },
  }
  described.set(tool, made)
  return made
}
