/* A Modbus server made with libmodbus: server PORT UNIT REGISTER..., or a serial device instead of the port (RTU).
   The registers (hexadecimal) are holding registers from 0 on; beyond them it answers "illegal address". */
#include <modbus.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    modbus_mapping_t *mapping = modbus_mapping_new(0, 0, argc - 3, 0);
    for (int i = 3; i < argc; i++) mapping->tab_registers[i - 3] = (uint16_t)strtol(argv[i], NULL, 16);
    int unit = atoi(argv[2]);
    if (argv[1][0] == '/') {
        modbus_t *line = modbus_new_rtu(argv[1], 19200, 'N', 8, 1);
        uint8_t query[MODBUS_RTU_MAX_ADU_LENGTH];
        modbus_set_slave(line, unit);
        if (modbus_connect(line) == -1) return 1;
        for (;;) {
            int length = modbus_receive(line, query);
            if (length > 0) modbus_reply(line, query, length, mapping);
        }
    }
    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    int listener = modbus_tcp_listen(context, 4);
    if (listener == -1) return 1;
    for (;;) {
        uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
        int length;
        if (modbus_tcp_accept(context, &listener) == -1) return 1;
        while ((length = modbus_receive(context, query)) != -1)
            if (length > 6 && query[6] == unit) modbus_reply(context, query, length, mapping);
        modbus_close(context); /* one client at a time, as small devices do */
    }
}
