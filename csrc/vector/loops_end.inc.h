/* The end of what loops.inc.h began. */
#undef VEC
#undef LANES
#undef SPLAT
#undef LOAD
#undef STORE
#undef EACH_VECTOR
#undef GET_OR
#undef GET
#undef PUT
